//! What a path is before a node uses it as its data directory: found out without touching it.

use std::fs;
use std::io;
use std::path::Path;

use quorate_wal::DirLock;

use super::StorageError;
use super::identity::{self, FILE, HARMLESS, Identity};

/// Refuses a path that no node can use: a file, a directory with another program's data, or one that a
/// running node holds. Nothing is written to a directory that was never a node's.
///
/// # Errors
/// See [`StorageError`]; that the path is not there is no error, for it can be made.
pub fn inspect(path: &Path) -> Result<(), StorageError> {
    examine(path)?;
    if is_used(path) {
        // Whoever starts takes the lock again: this one only tells of a node that runs.
        drop(DirLock::acquire(path)?);
    }
    Ok(())
}

/// Whose data a directory holds; none if it was never used. Nothing in it is touched.
///
/// # Errors
/// When it cannot be read, or what it says is damaged.
pub fn owner(path: &Path) -> Result<Option<Identity>, StorageError> {
    let directory = path.display().to_string();
    match fs::read(path.join(FILE)) {
        Ok(text) => identity::parse(&text)
            .map(Some)
            .map_err(|problem| StorageError::Identity { directory, problem }),
        Err(error) if !is_used(path) && error.kind() != io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(StorageError::directory(&directory, error)),
    }
}

/// Whether a node has used the directory before.
pub(crate) fn is_used(path: &Path) -> bool {
    path.join(FILE).exists()
}

/// As [`inspect`], but does not look whether a node runs.
pub(crate) fn examine(path: &Path) -> Result<(), StorageError> {
    let directory = path.display().to_string();
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => return Err(StorageError::NotADirectory { directory }),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(StorageError::NotADirectory { directory });
        }
        Err(error) => return Err(StorageError::directory(&directory, error)),
    }
    if is_used(path) {
        return Ok(());
    }
    if ["wal", "snap"]
        .iter()
        .any(|part| path.join("member").join(part).exists())
    {
        return Err(StorageError::EtcdData { directory });
    }
    match foreign_file(path).map_err(|error| StorageError::directory(&directory, error))? {
        Some(found) => Err(StorageError::NotEmpty { directory, found }),
        None => Ok(()),
    }
}

fn foreign_file(path: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !HARMLESS.contains(&name.as_str()) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_data_directory_is_told_apart_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(inspect(&dir.path().join("new")).is_ok());
        assert!(inspect(dir.path()).is_ok());
        fs::write(dir.path().join("notes"), "mine").unwrap();
        let error = inspect(dir.path()).unwrap_err();
        assert!(matches!(error, StorageError::NotEmpty { .. }), "{error}");
        for file in ["notes", "notes/below"] {
            let error = inspect(&dir.path().join(file)).unwrap_err();
            assert!(error.to_string().contains("is not a directory"), "{error}");
        }
        fs::create_dir_all(dir.path().join("member/snap")).unwrap();
        let error = inspect(dir.path()).unwrap_err();
        assert!(error.to_string().contains("etcd"), "{error}");
        assert!(!dir.path().join("LOCK").exists());
    }

    #[test]
    fn a_directory_in_use_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "").unwrap();
        let lock = DirLock::acquire(dir.path()).unwrap();
        let error = inspect(dir.path()).unwrap_err();
        assert!(error.to_string().contains("in use"), "{error}");
        drop(lock);
        assert!(inspect(dir.path()).is_ok());
    }
}
