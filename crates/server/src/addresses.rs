//! How many connections each address has, and how many of them shake hands.
//!
//! - One that is too many is closed before a byte is read from it: nothing is spoken yet in which it could be told
//!   why. It is counted, and logged once in a while.
//! - Of TLS handshakes each address has a share. More of its connections wait, and only its own wait for that.
//! - Whoever has one IPv6 address has 2 to the 64th of them (RFC 6177), which count as one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::seldom::Seldom;

/// The connections of all clients, by address.
pub(crate) struct Addresses {
    most: Most,
    places: Mutex<HashMap<IpAddr, Place>>,
    refused: Counter,
    told: Seldom,
}

/// How much an address may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    /// Connections.
    pub(crate) connections: usize,
    /// TLS handshakes among them at one time.
    pub(crate) handshakes: usize,
}

/// What an address has.
struct Place {
    connections: usize,
    handshakes: Arc<Semaphore>,
}

impl Addresses {
    /// Takes so many of each; counts the others in `refused`.
    pub(crate) fn new(most: Most, refused: Counter) -> Addresses {
        Addresses {
            most,
            places: Mutex::default(),
            refused,
            told: Seldom::new(),
        }
    }

    /// Takes one more connection of `address`, for as long as the answer lives.
    pub(crate) fn enter(self: &Arc<Addresses>, address: IpAddr) -> Option<Entered> {
        let owner = owner(address);
        let mut places = self.places.lock();
        let place = places.entry(owner).or_insert_with(|| Place {
            connections: 0,
            handshakes: Arc::new(Semaphore::new(self.most.handshakes.min(Semaphore::MAX_PERMITS))),
        });
        if place.connections >= self.most.connections {
            drop(places);
            self.refuse(address);
            return None;
        }
        place.connections += 1;
        Some(Entered {
            addresses: Arc::clone(self),
            owner,
            handshakes: Arc::clone(&place.handshakes),
        })
    }

    fn refuse(&self, address: IpAddr) {
        self.refused.inc();
        if self.told.is_due(Instant::now()) {
            let most = self.most.connections;
            tracing::warn!(%address, "a connection was closed: its address has {most} already (--max-connections-per-address)");
        }
    }
}

/// Where a request comes from: as its connection says it, and never a header (CVE-2024-51504). Requests have it as an
/// extension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientAddress(pub(crate) SocketAddr);

/// Whose address it is: of IPv4 the address itself, of IPv6 its network of 64 bits.
pub(crate) fn owner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address @ IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
    }
}

/// A connection that is counted.
pub(crate) struct Entered {
    addresses: Arc<Addresses>,
    owner: IpAddr,
    handshakes: Arc<Semaphore>,
}

impl Entered {
    /// Waits until the address may make one more handshake.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed, so that there is always a permit in the end.
        Arc::clone(&self.handshakes).acquire_owned().await.ok()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut places = self.addresses.places.lock();
        if let Some(place) = places.get_mut(&self.owner) {
            place.connections -= 1;
            if place.connections == 0 {
                places.remove(&self.owner);
            }
        }
    }
}

const NETWORK: u128 = !0 << 64;

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Most = Most {
        connections: 2,
        handshakes: 1,
    };

    #[test]
    fn each_address_has_its_own_count_and_those_that_leave_make_room() {
        let refused = Counter::default();
        let addresses = Arc::new(Addresses::new(MOST, refused.clone()));
        let enter = |last| addresses.enter([10, 0, 0, last].into());
        let (first, _second) = (enter(1), enter(1));
        assert!(first.is_some() && enter(1).is_none());
        assert!(enter(2).is_some());
        drop(first);
        assert!(enter(1).is_some());
        assert_eq!(refused.get(), 1);
        drop(_second);
        assert!(addresses.places.lock().is_empty());
    }

    #[test]
    fn a_bound_may_be_larger_than_any_number_of_connections() {
        let most = Most {
            connections: usize::MAX,
            handshakes: usize::MAX,
        };
        let addresses = Arc::new(Addresses::new(most, Counter::default()));
        assert!(addresses.enter([10, 0, 0, 1].into()).is_some());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let addresses = Arc::new(Addresses::new(MOST, Counter::default()));
        let enter = |text: &str| addresses.enter(text.parse().unwrap());
        let held = [enter("2001:db8::1"), enter("2001:db8::ffff:0:0:2")];
        assert!(held.iter().all(Option::is_some) && enter("2001:db8::3").is_none());
        assert!(enter("2001:db8:0:1::1").is_some());
        let mapped = [enter("::ffff:10.0.0.1"), enter("10.0.0.1")];
        assert!(mapped.iter().all(Option::is_some) && enter("::ffff:10.0.0.1").is_none());
        assert!(enter("10.0.0.2").is_some());
    }

    #[tokio::test]
    async fn an_address_waits_for_its_own_handshakes_only() {
        let addresses = Arc::new(Addresses::new(MOST, Counter::default()));
        let enter = |last| addresses.enter([10, 0, 0, last].into()).unwrap();
        let (first, second, other) = (enter(1), enter(1), enter(2));
        let held = first.turn().await;
        assert!(futures::poll!(std::pin::pin!(second.turn())).is_pending());
        assert!(other.turn().await.is_some());
        drop(held);
        assert!(second.turn().await.is_some());
    }
}
