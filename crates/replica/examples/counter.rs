//! A counter on three durable nodes: `cargo run --release -p quorate --example counter [DIR]`
#![allow(clippy::print_stdout)]
use quorate::{Config, StateMachine};

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
    let dir = std::env::args().nth(1).unwrap_or("quorate-counter".into());
    let peers = [1, 2, 3].map(|id| (id, format!("127.0.0.1:710{id}")));
    let start = |id| {
        let config = Config::new(id).peers(peers.clone());
        config.data_dir(format!("{dir}/{id}")).start::<Counter>()
    };
    let mut nodes = vec![start(1)?, start(2)?, start(3)?];
    for node in &nodes {
        println!("{} increments to {}", node.node(), node.propose(1).await?);
    }
    println!("{} is gone", nodes.remove(0).node()); // Its last handle is dropped: it ends.
    for node in &nodes {
        println!("{} goes on from {}", node.node(), node.read(()).await?);
        node.propose(1).await?;
    }
    Ok(())
}
