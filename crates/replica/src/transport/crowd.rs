//! How many connections may come in: of each address, and of those who have not said yet who they are.
//!
//! - One that is too many is closed before a byte is read from it.
//! - An address has a quarter of the places for those who have not said who they are: it keeps out no other.
//! - Whoever has one IPv6 address has 2 to the 64th of them (RFC 6177), which count as one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// The connections that came in.
pub(super) struct Crowd {
    most: Most,
    there: Mutex<There>,
}

/// How many there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    /// Of one address.
    pub(super) per_address: usize,
    /// That have not said who they are.
    pub(super) pending: usize,
}

impl Most {
    fn pending_per_address(self) -> usize {
        (self.pending / 4).max(1)
    }
}

/// Why a connection is closed as soon as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Crowded {
    #[error("its address has {0} already (max-peer-connections-per-address)")]
    Address(usize),
    #[error(
        "its address has {0} already that have not said who they are (a quarter of max-pending-peer-connections)"
    )]
    PendingOfAddress(usize),
    #[error("{0} others have not said yet who they are (max-pending-peer-connections)")]
    Pending(usize),
}

#[derive(Default)]
struct There {
    pending: usize,
    places: BTreeMap<IpAddr, Place>,
}

/// What an address has.
#[derive(Default)]
struct Place {
    connections: usize,
    pending: usize,
}

impl Crowd {
    pub(super) fn new(most: Most) -> Self {
        let there = Mutex::default();
        Self { most, there }
    }

    /// Takes one more connection of `address`, for as long as what is given back lives.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Entered, Crowded> {
        let owner = owner(address);
        let mut there = self.there.lock();
        let (connections, pending) = there
            .places
            .get(&owner)
            .map_or((0, 0), |place| (place.connections, place.pending));
        if connections >= self.most.per_address {
            return Err(Crowded::Address(connections));
        }
        if pending >= self.most.pending_per_address() {
            return Err(Crowded::PendingOfAddress(pending));
        }
        if there.pending >= self.most.pending {
            return Err(Crowded::Pending(there.pending));
        }
        there.pending += 1;
        let place = there.places.entry(owner).or_default();
        place.connections += 1;
        place.pending += 1;
        Ok(Entered {
            crowd: Arc::clone(self),
            owner,
            stage: Stage::Pending,
        })
    }
}

/// A connection that is counted.
pub(super) struct Entered {
    crowd: Arc<Crowd>,
    owner: IpAddr,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Pending,
    Welcomed,
}

impl Entered {
    /// It has said who it is, and may be that.
    pub(super) fn welcome(&mut self) {
        if self.stage == Stage::Pending {
            self.stage = Stage::Welcomed;
            self.crowd.there.lock().end_pending(self.owner);
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut there = self.crowd.there.lock();
        if self.stage == Stage::Pending {
            there.end_pending(self.owner);
        }
        if let Some(place) = there.places.get_mut(&self.owner) {
            place.connections -= 1;
            if place.connections == 0 {
                there.places.remove(&self.owner);
            }
        }
    }
}

impl There {
    fn end_pending(&mut self, owner: IpAddr) {
        self.pending -= 1;
        if let Some(place) = self.places.get_mut(&owner) {
            place.pending -= 1;
        }
    }
}

/// Whose address it is: of IPv4 the address itself, of IPv6 its network of 64 bits.
fn owner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address @ IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
    }
}

const NETWORK: u128 = !0 << 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// At most three of an address, and eight that are pending, two of them of one address.
    fn crowd() -> Arc<Crowd> {
        Arc::new(Crowd::new(Most {
            per_address: 3,
            pending: 8,
        }))
    }

    fn ipv4(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn refusal(crowd: &Arc<Crowd>, address: IpAddr) -> Option<Crowded> {
        crowd.enter(address).err()
    }

    #[test]
    fn an_address_has_so_many_and_those_that_leave_make_room() {
        let crowd = crowd();
        let mut held = Vec::new();
        for _ in 0..3 {
            let mut entered = crowd.enter(ipv4(1)).unwrap();
            entered.welcome();
            held.push(entered);
        }
        assert_eq!(refusal(&crowd, ipv4(1)), Some(Crowded::Address(3)));
        assert_eq!(refusal(&crowd, ipv4(2)), None);
        held.pop();
        assert_eq!(refusal(&crowd, ipv4(1)), None);
        held.clear();
        let there = crowd.there.lock();
        assert!(there.places.is_empty() && there.pending == 0);
    }

    #[test]
    fn an_address_has_a_quarter_of_those_that_have_not_said_who_they_are() {
        let crowd = crowd();
        let mut first = crowd.enter(ipv4(1)).unwrap();
        let _second = crowd.enter(ipv4(1)).unwrap();
        assert_eq!(refusal(&crowd, ipv4(1)), Some(Crowded::PendingOfAddress(2)));
        assert_eq!(refusal(&crowd, ipv4(2)), None);
        first.welcome();
        first.welcome();
        assert_eq!(refusal(&crowd, ipv4(1)), None);
        assert_eq!(crowd.there.lock().pending, 1);
    }

    #[test]
    fn of_all_addresses_so_many_have_not_said_who_they_are() {
        let crowd = crowd();
        let enter = |n: u8| crowd.enter(ipv4(n / 2)).unwrap();
        let mut held: Vec<Entered> = (0..8).map(enter).collect();
        assert_eq!(refusal(&crowd, ipv4(9)), Some(Crowded::Pending(8)));
        held.pop();
        assert_eq!(refusal(&crowd, ipv4(9)), None);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let crowd = crowd();
        let enter = |text: &str| crowd.enter(text.parse().unwrap());
        let _held = [enter("2001:db8::1"), enter("2001:db8::ffff:0:0:2")];
        assert!(enter("2001:db8::3").is_err() && enter("2001:db8:0:1::1").is_ok());
        let _mapped = [enter("::ffff:10.0.0.1"), enter("10.0.0.1")];
        assert!(enter("::ffff:10.0.0.1").is_err() && enter("10.0.0.2").is_ok());
    }
}
