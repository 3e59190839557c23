//! Waiting for something that becomes true.

use tokio::sync::watch;

/// Waits until the flag is true, or can never be because its owner is gone.
pub(crate) async fn raised(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|flag| *flag).await;
}
