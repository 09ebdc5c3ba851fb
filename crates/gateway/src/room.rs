//! How many HTTP connections unknown peers may hold, in all and per address. Counts only; closing is the caller's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// Connections of all peers together. Less than the control plane takes, so that agents always find room there.
const MAX_CONNECTIONS: usize = 512;
/// Connections of one address.
const MAX_PER_ADDRESS: usize = 128;

/// What is occupied.
#[derive(Debug, Default)]
pub(crate) struct Room {
    places: Mutex<HashMap<IpAddr, usize>>,
}

impl Room {
    /// A place until it is dropped; none when there is no room.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut places = self.places.lock();
        let own = places.get(&address).copied().unwrap_or_default();
        if own >= MAX_PER_ADDRESS || places.values().sum::<usize>() >= MAX_CONNECTIONS {
            return None;
        }
        places.insert(address, own + 1);
        Some(Place { room: Arc::clone(self), address })
    }
}

/// One connection's place.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.room.places.lock();
        match places.get_mut(&self.address) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                places.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_everything_and_all_together_are_bounded() {
        let room = Arc::new(Room::default());
        let address = |number: u8| IpAddr::from([192, 0, 2, number]);
        let mut places: Vec<Place> = (0..MAX_PER_ADDRESS).map(|_| room.enter(address(1)).unwrap()).collect();
        assert!(room.enter(address(1)).is_none());
        assert!(room.enter("::ffff:192.0.2.1".parse().unwrap()).is_none(), "the same address, mapped");
        for number in 2.. {
            match room.enter(address(number)) {
                Some(place) => places.push(place),
                None => break,
            }
            places.extend((1..MAX_PER_ADDRESS).filter_map(|_| room.enter(address(number))));
        }
        assert_eq!(places.len(), MAX_CONNECTIONS);
        places.pop();
        assert!(room.enter(address(200)).is_some());
        drop(places);
        assert!(room.places.lock().is_empty());
    }
}
