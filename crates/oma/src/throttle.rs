//! Counts attempts per source address within a window, in bounded memory. Pure: it is told the time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Addresses remembered at once (some 100 bytes each); beyond, the oldest window is forgotten.
const MAX_ADDRESSES: usize = 4096;

/// A limit on attempts per address.
#[derive(Debug)]
pub struct Throttle {
    max_attempts: u32,
    window: Duration,
    windows: Mutex<HashMap<IpAddr, Window>>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Instant,
    attempts: u32,
}

impl Throttle {
    /// At most `max_attempts` in each `window`.
    #[must_use]
    pub fn new(max_attempts: u32, window: Duration) -> Self {
        Self { max_attempts, window, windows: Mutex::new(HashMap::new()) }
    }

    /// Whether an address has attempts left; it counts none.
    ///
    /// # Errors
    /// How long to wait.
    pub fn check(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        match self.windows.lock().get(&network(address)) {
            Some(window) => self.verdict(*window, now),
            None => Ok(()),
        }
    }

    /// Counts an attempt if there is one left.
    ///
    /// # Errors
    /// How long to wait.
    pub fn attempt(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut windows = self.windows.lock();
        let address = network(address);
        if !windows.contains_key(&address) && windows.len() >= MAX_ADDRESSES {
            make_room(&mut windows, self.window, now);
        }
        let window = windows.entry(address).or_insert(Window { began: now, attempts: 0 });
        if now.duration_since(window.began) >= self.window {
            *window = Window { began: now, attempts: 0 };
        }
        self.verdict(*window, now)?;
        window.attempts += 1;
        Ok(())
    }

    fn verdict(&self, window: Window, now: Instant) -> Result<(), Duration> {
        let age = now.duration_since(window.began);
        if window.attempts < self.max_attempts || age >= self.window { Ok(()) } else { Err(self.window - age) }
    }
}

/// Whoever has one IPv6 address has a /64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn make_room(windows: &mut HashMap<IpAddr, Window>, length: Duration, now: Instant) {
    windows.retain(|_, window| now.duration_since(window.began) < length);
    if windows.len() < MAX_ADDRESSES {
        return;
    }
    let oldest = windows.iter().min_by_key(|(_, window)| window.began).map(|(address, _)| *address);
    if let Some(address) = oldest {
        windows.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    #[test]
    fn attempts_end_and_come_back_with_the_next_window() {
        let throttle = Throttle::new(2, WINDOW);
        let (address, start) = (IpAddr::from([192, 0, 2, 1]), Instant::now());
        assert_eq!(throttle.attempt(address, start), Ok(()));
        assert_eq!(throttle.attempt(address, start), Ok(()));
        let later = start + Duration::from_secs(20);
        assert_eq!(throttle.attempt(address, later), Err(Duration::from_secs(40)));
        assert_eq!(throttle.check(address, later), Err(Duration::from_secs(40)));
        assert_eq!(throttle.attempt(IpAddr::from([192, 0, 2, 2]), later), Ok(()));
        assert_eq!(throttle.attempt(address, start + WINDOW), Ok(()));
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_and_mapped_ipv4_as_itself() {
        let throttle = Throttle::new(1, WINDOW);
        let now = Instant::now();
        assert!(throttle.attempt("2001:db8::1".parse().unwrap(), now).is_ok());
        assert!(throttle.attempt("2001:db8::2".parse().unwrap(), now).is_err());
        assert!(throttle.attempt("::ffff:192.0.2.1".parse().unwrap(), now).is_ok());
        assert!(throttle.attempt("192.0.2.1".parse().unwrap(), now).is_err());
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::new(1, WINDOW);
        let now = Instant::now();
        for number in 0..(MAX_ADDRESSES as u32 + 100) {
            assert!(throttle.attempt(IpAddr::from(number.to_be_bytes()), now).is_ok());
        }
        assert_eq!(throttle.windows.lock().len(), MAX_ADDRESSES);
    }
}
