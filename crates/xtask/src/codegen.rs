//! Rust code of the etcd API from the .proto files, without protoc.
//!
//! The result is checked in, so that a build of Quorate needs neither this program nor its
//! dependencies. Each package becomes one file; the descriptor set of all of them lies beside.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use prost::Message;

/// The roots of the import graph; what they import is generated with them.
const PROTOS: [&str; 5] = [
    "authpb/auth.proto",
    "etcdserverpb/rpc.proto",
    "mvccpb/kv.proto",
    "v3electionpb/v3election.proto",
    "v3lockpb/v3lock.proto",
];

const DESCRIPTOR: &str = "descriptor.bin";

/// Writes the generated files over those checked in.
pub(crate) fn write(root: &Path) -> Result<()> {
    let target = generated(root);
    fs::create_dir_all(&target)?;
    generate(root, &target)
}

/// Fails with the name of the first checked-in file that differs from what would be generated.
pub(crate) fn check(root: &Path) -> Result<()> {
    let fresh = tempfile::tempdir()?;
    generate(root, fresh.path())?;
    let (wanted, found) = (names(fresh.path())?, names(&generated(root))?);
    if wanted != found {
        bail!("generated files are {found:?}, should be {wanted:?}: run codegen");
    }
    for name in wanted {
        if fs::read(fresh.path().join(&name))? != fs::read(generated(root).join(&name))? {
            bail!("{name} is not what its .proto file generates: run codegen");
        }
    }
    Ok(())
}

fn generate(root: &Path, target: &Path) -> Result<()> {
    let mut descriptors = protox::compile(PROTOS, [root.join("crates/etcd-api/proto")])
        .context("the .proto files do not compile")?;
    tonic_prost_build::configure()
        .bytes(".")
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .out_dir(target)
        .compile_fds(descriptors.clone())?;
    for file in &mut descriptors.file {
        // Comments and positions, which the readers of a descriptor set do not need.
        file.source_code_info = None;
    }
    fs::write(target.join(DESCRIPTOR), descriptors.encode_to_vec())?;
    Ok(())
}

fn generated(root: &Path) -> PathBuf {
    root.join("crates/etcd-api/src/generated")
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_api() -> tonic_prost_build::FileDescriptorSet {
        let bytes = fs::read(generated(&crate::root()).join(DESCRIPTOR)).unwrap();
        tonic_prost_build::FileDescriptorSet::decode(bytes.as_slice()).unwrap()
    }

    #[test]
    fn the_client_api_has_every_message_field_and_method() {
        let set = client_api();
        let rpc = set
            .file
            .iter()
            .find(|file| file.package() == "etcdserverpb")
            .unwrap();
        let fields: usize = rpc.message_type.iter().map(|m| m.field.len()).sum();
        assert_eq!((rpc.message_type.len(), fields), (98, 219));
        let methods: usize = set
            .file
            .iter()
            .flat_map(|file| &file.service)
            .map(|service| service.method.len())
            .sum();
        assert_eq!(methods, 49);
    }
}
