//! Members of three real processes that come and go, by the program's own commands.

use crate::binary;
use crate::faults::{TIMING, TURN};
use crate::harness::cluster::{Cluster, Place};
use crate::harness::verify::{agreement, check_record};
use crate::harness::workload::Workload;
use crate::harness::{block_on, eventually, run};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::future::ready;
use std::process::{Child, Command, Stdio};
use std::sync::PoisonError;

/// `quorate member WORDS`, at all of the nodes' endpoints.
fn member(cluster: &Cluster, nodes: &[usize], words: &[&str]) -> Command {
    let endpoints: Vec<String> = nodes
        .iter()
        .map(|node| cluster.endpoint(*node).to_string())
        .collect();
    let mut command = Command::new(binary());
    command.arg("member").args(words);
    command.args(["--endpoints", &endpoints.join(","), "--output", "json"]);
    command
}

fn json(command: &mut Command) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&run(command)?)?)
}

fn names(listed: &Value) -> Vec<&str> {
    let members = listed["members"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mut names: Vec<&str> = members
        .iter()
        .filter_map(|member| member["name"].as_str())
        .collect();
    names.sort_unstable();
    names
}

/// Fails while the command runs, or when it failed.
fn ended(command: &mut Child) -> anyhow::Result<()> {
    let status = command.try_wait()?.context("it runs")?;
    ensure!(status.success(), "the command ended with {status}");
    Ok(())
}

/// Ends with the test, whatever becomes of it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_dead_node_is_replaced_under_load_with_one_command() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    block_on(async {
        let flags = [TIMING.as_slice(), &["--snapshot-count", "100"]].concat();
        let mut cluster = Cluster::start(binary(), 3, Place::Loopback, &flags)?;
        cluster.leader().await?;
        let new = cluster.make_room()?;
        let clients: Vec<_> = [0, 1].map(|node| cluster.client(node)).into();
        let workload = Workload::start(&clients, 2).await?;
        cluster.kill(2)?;

        let url = cluster.peer_url(new);
        let words = [
            "replace",
            "--dead",
            "n3",
            "--name",
            cluster.name(new),
            "--peer-url",
            &url,
        ];
        let mut command = member(&cluster, &[0, 1, 2], &words);
        let replacing = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut replacing = Running(replacing);
        eventually("the new node is expected", async || {
            let listed = json(&mut member(&cluster, &[0], &["list"]))?;
            let members = listed["members"].as_array().context("no members")?;
            ensure!(members.iter().any(|member| member["peerURLs"][0] == url.as_str()));
            Ok(())
        })
        .await?;
        cluster.restart(new)?;
        eventually("the command ends", || ready(ended(&mut replacing.0))).await?;
        let listed = json(&mut member(&cluster, &[0], &["list"]))?;
        ensure!(names(&listed) == ["n1", "n2", "n4"], "{listed}");
        cluster.caught_up_with(new, &[0, 1]).await?;

        // One more of the old members goes: the new one is needed, and has everything.
        cluster.kill(0)?;
        cluster.leader_among(&[1, new]).await?;
        let before = workload.acknowledged();
        eventually("writes go on", async || {
            ensure!(workload.acknowledged() > before + 20);
            Ok(())
        })
        .await?;
        let record = workload.stop().await;
        cluster.check_running()?;
        let state = agreement(&[cluster.client(1), cluster.client(new)]).await?;
        check_record(&record, &state)?;

        // It needs its directory only, and finds the members of today there.
        cluster.terminate(new)?;
        cluster.restart(new)?;
        cluster.leader_among(&[1, new]).await?;
        Ok(())
    });
}

#[test]
fn a_removed_node_ends_and_says_why() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    block_on(async {
        let mut cluster = Cluster::start(binary(), 3, Place::Loopback, &TIMING)?;
        let leader = cluster.leader().await?;
        cluster.client(leader).put("a", "1").await?;
        let name = cluster.name(leader).to_string();
        let others = cluster.others(leader);
        let listed = json(&mut member(&cluster, &others, &["remove", &name]))?;
        ensure!(
            listed["members"]
                .as_array()
                .is_some_and(|members| members.len() == 2),
            "{listed}"
        );
        let ends = || ready(cluster.last_words_of_ended(leader));
        let words = eventually("the removed node ends", ends).await?;
        ensure!(words.contains("removed from the cluster"), "{words}");
        cluster.leader_among(&others).await?;
        cluster.client(others[0]).put("a", "2").await?;
        let gone = run(&mut member(&cluster, &others, &["remove", &name]));
        ensure!(gone.is_err_and(|error| error.to_string().contains("there is no member")));
        Ok(())
    });
}

#[test]
fn a_node_that_was_removed_while_it_was_down_ends_and_says_why() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    block_on(async {
        let mut cluster = Cluster::start(binary(), 3, Place::Loopback, &TIMING)?;
        let leader = cluster.leader().await?;
        cluster.client(leader).put("a", "1").await?;
        let others = cluster.others(leader);
        cluster.kill(leader)?;
        cluster.leader_among(&others).await?;
        // The first endpoint is dead: another answers.
        let all: Vec<usize> = [leader].into_iter().chain(others.clone()).collect();
        json(&mut member(&cluster, &all, &["remove", cluster.name(leader)]))?;
        cluster.restart(leader)?;
        let ends = || ready(cluster.last_words_of_ended(leader));
        let words = eventually("the removed node ends", ends).await?;
        ensure!(
            words.contains("removed from the cluster") && words.contains("remove its data directory"),
            "{words}"
        );
        // Without a majority each that was asked is told of.
        cluster.kill(others[0])?;
        let told = run(&mut member(&cluster, &others, &["list"])).map(drop);
        let told = told.err().context("the members were listed")?.to_string();
        let named = |node: usize| told.contains(&cluster.endpoint(node).to_string());
        ensure!(
            told.contains("majority of the voters") && named(others[0]) && named(others[1]),
            "{told}"
        );
        Ok(())
    });
}

#[test]
fn a_witness_keeps_two_going_and_says_what_it_is() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    block_on(async {
        let flags = [TIMING.as_slice(), &["--initial-witnesses", "n3"]].concat();
        let mut cluster = Cluster::start(binary(), 3, Place::Loopback, &flags)?;
        let leader = cluster.leader().await?;
        ensure!(leader != 2, "a witness leads");
        cluster.client(leader).put("a", "1").await?;
        let refused = cluster
            .client(2)
            .put("a", "2")
            .await
            .err()
            .context("a witness took a write")?;
        ensure!(format!("{refused:#}").contains("witness"), "{refused:#}");
        let listed = json(&mut member(&cluster, &[2], &["list"]))?;
        ensure!(names(&listed) == ["n1", "n2", "n3"], "{listed}");
        cluster.kill(leader)?;
        let other = 1 - leader;
        cluster.leader_among(&[other, 2]).await?;
        cluster.client(other).put("a", "3").await?;
        Ok(())
    });
}
