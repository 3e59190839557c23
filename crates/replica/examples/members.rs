//! A dead node is replaced by a new one: `cargo run --release -p quorate --example members`
#![allow(clippy::print_stdout)]
use quorate::{Config, MemberContext, NodeId, ReconfigureError, StateMachine, Target};

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Counter(u64);

impl StateMachine for Counter {
    type Command = u64;
    type Response = u64;
    type Query = ();
    type Answer = u64;
    fn apply(&mut self, amount: u64) -> u64 {
        self.0 += amount;
        self.0
    }
    fn query(&self, (): ()) -> u64 {
        self.0
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("quorate-members-{}", std::process::id()));
    let address = |id| format!("127.0.0.1:720{id}");
    let config = |id: u64| Config::new(id).data_dir(dir.join(id.to_string()));
    let founders = [1, 2, 3].map(|id| (id, address(id)));
    let mut nodes = Vec::new();
    for id in [1, 2, 3] {
        nodes.push(config(id).peers(founders.clone()).start::<Counter>()?);
    }
    println!("n1 increments to {}", nodes[0].propose(1).await?);
    println!("{} is gone", nodes.remove(2).node()); // Its last handle is dropped: it ends.

    // The change is committed first. Then it goes on by itself, whoever leads, and whether or not we wait.
    let info = MemberContext::at("the new one", address(4)).into_info();
    let change = nodes[0].change_members::<ReconfigureError>(|members| {
        Ok(Target::of(members)
            .with_voter(NodeId(4), info.clone())?
            .without(NodeId(3))?)
    });
    let change = change.await?;
    nodes.push(
        config(4)
            .peers([1, 2, 4].map(|id| (id, address(id))))
            .join()
            .start::<Counter>()?,
    );
    change.done().await?; // The new node has caught up, and votes.
    println!("the members are {}", nodes[0].status().await?.configuration);

    println!("{} is gone too", nodes.remove(0).node());
    println!("n4 goes on from {}", nodes[1].read(()).await?);
    for node in nodes {
        node.shutdown().await;
    }
    Ok(std::fs::remove_dir_all(dir)?)
}
