//! The echo probe (RFC 792, RFC 4443 §4): a request over an ICMP datagram socket, which needs no privilege where the
//! kernel's `net.ipv4.ping_group_range` covers our group, or over a raw socket where we may have one.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use tokio::net::UdpSocket;

/// Header of an echo message, in bytes: type, code, checksum, identifier, sequence number.
const HEADER_BYTES: usize = 8;
/// Largest packet looked at, in bytes: ours with the longest IPv4 header is below it.
const MAX_PACKET_BYTES: usize = 512;
/// What is tried, the less privileged first.
const KINDS: [SocketType; 2] = [SocketType::DGRAM, SocketType::RAW];

/// Why no echo came.
#[derive(Debug, thiserror::Error)]
pub(super) enum IcmpError {
    /// Neither kind of socket is allowed.
    #[error("this process may not send echo requests")]
    NotPermitted(#[source] io::Error),
    /// The system has no such socket.
    #[error("the system gives no ICMP socket")]
    NoSocket(#[source] io::Error),
    /// The network said no.
    #[error("no echo from {address}")]
    Network {
        /// Who was asked.
        address: IpAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl IcmpError {
    /// What an operator can do; none where another try may help.
    pub(super) fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::NotPermitted(_) => Some(
                "let the hub's group send them: `sysctl -w net.ipv4.ping_group_range='0 2147483647'` (it counts for IPv6, \
                 too), or give the service CAP_NET_RAW; or probe a TCP port instead",
            ),
            Self::NoSocket(_) => Some("probe a TCP port instead"),
            Self::Network { .. } => None,
        }
    }
}

/// Sends a request and waits for its echo, however long that takes.
///
/// # Errors
/// There is no socket, or the network says that the address cannot be reached.
pub(super) async fn echo(address: IpAddr, sequence: u16) -> Result<(), IcmpError> {
    let (socket, kind) = open(|kind| icmp_socket(address, kind))?;
    exchange(socket, kind, address, sequence).await.map_err(|source| IcmpError::Network { address, source })
}

async fn exchange(socket: OwnedFd, kind: SocketType, address: IpAddr, sequence: u16) -> io::Result<()> {
    // Connecting, sending and receiving are the same for every socket of datagrams.
    let socket = UdpSocket::from_std(socket.into())?;
    socket.connect(SocketAddr::new(address, 0)).await?;
    // Another process may use the same identifier, and a raw socket hears the answers to everybody.
    let payload = model::id::new_id().into_bytes();
    socket.send(&request(address, sequence, &payload)).await?;
    let mut packet = [0; MAX_PACKET_BYTES];
    loop {
        let length = socket.recv(&mut packet).await?;
        let message = match (address, kind) {
            (IpAddr::V4(_), SocketType::RAW) => without_ip_header(&packet[..length]),
            _ => &packet[..length],
        };
        if is_reply(address, message, sequence, &payload) {
            return Ok(());
        }
    }
}

/// The first kind of socket that the system gives.
fn open(give: impl Fn(SocketType) -> Result<OwnedFd, Errno>) -> Result<(OwnedFd, SocketType), IcmpError> {
    let mut refusal = Errno::PERM;
    for kind in KINDS {
        match give(kind) {
            Ok(socket) => return Ok((socket, kind)),
            // Old kernels and sandboxes do not know the first kind.
            Err(error @ (Errno::PERM | Errno::ACCESS | Errno::PROTONOSUPPORT | Errno::NOPROTOOPT)) => refusal = error,
            Err(error) => return Err(IcmpError::NoSocket(error.into())),
        }
    }
    Err(IcmpError::NotPermitted(refusal.into()))
}

fn icmp_socket(address: IpAddr, kind: SocketType) -> Result<OwnedFd, Errno> {
    let (family, protocol) = match address {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, Some(protocol))
}

/// An echo request. Identifier and checksum are the kernel's on a datagram socket, the checksum also for IPv6; a raw
/// IPv4 socket sends what is here.
fn request(address: IpAddr, sequence: u16, payload: &[u8]) -> Vec<u8> {
    const ECHO_V4: u8 = 8;
    const ECHO_V6: u8 = 128;
    let kind = if address.is_ipv4() { ECHO_V4 } else { ECHO_V6 };
    let mut message = vec![kind, 0, 0, 0, 0, 0];
    message.extend_from_slice(&sequence.to_be_bytes());
    message.extend_from_slice(payload);
    if address.is_ipv4() {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// RFC 1071.
fn checksum(message: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default());
    let mut sum: u32 = message.chunks(2).map(word).sum();
    while sum > 0xFFFF {
        sum = (sum >> 16) + (sum & 0xFFFF);
    }
    !((sum & 0xFFFF) as u16)
}

/// What a raw IPv4 socket gives begins with the IP header; nothing of a packet that is not one.
fn without_ip_header(packet: &[u8]) -> &[u8] {
    let words = packet.first().map_or(0, |first| usize::from(first & 0x0F));
    packet.get(words * 4..).unwrap_or_default()
}

/// Whether a message is the answer to our request. Our own requests come back, too, when we ask ourselves.
fn is_reply(address: IpAddr, message: &[u8], sequence: u16, payload: &[u8]) -> bool {
    const REPLY_V4: u8 = 0;
    const REPLY_V6: u8 = 129;
    let kind = if address.is_ipv4() { REPLY_V4 } else { REPLY_V6 };
    message.len() == HEADER_BYTES + payload.len()
        && message[..2] == [kind, 0]
        && message[6..8] == sequence.to_be_bytes()
        && message[HEADER_BYTES..] == *payload
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    #[test]
    fn what_is_sent_is_what_the_protocol_says() {
        let message = request(V4, 0x0102, b"abc");
        assert_eq!(message[..2], [8, 0]);
        assert_eq!(message[4..], [0, 0, 1, 2, b'a', b'b', b'c']);
        assert_eq!(checksum(&message), 0, "the sum over a sound message is nothing");
        assert_eq!(request(V6, 1, b"abc")[..4], [128, 0, 0, 0], "the kernel fills it in");
        assert_eq!(checksum(&[0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7]), 0x220D, "RFC 1071 §3");
    }

    #[test]
    fn only_the_answer_to_our_own_request_counts() {
        let reply = [&[0, 0, 9, 9, 7, 7, 0, 5][..], b"abc"].concat();
        assert!(is_reply(V4, &reply, 5, b"abc"));
        assert!(!is_reply(V6, &reply, 5, b"abc"));
        assert!(!is_reply(V4, &reply, 6, b"abc"));
        assert!(!is_reply(V4, &reply, 5, b"abd"));
        assert!(!is_reply(V4, &request(V4, 5, b"abc"), 5, b"abc"), "our own request");
        let framed = [&[0x46; 24][..], &reply].concat();
        assert_eq!(without_ip_header(&framed), reply);
        for cut in 0..framed.len() {
            assert!(!is_reply(V4, without_ip_header(&framed[..cut]), 5, b"abc"));
        }
    }

    #[test]
    fn without_a_permission_the_remedy_names_the_setting() {
        for errors in [[Errno::ACCESS, Errno::PERM], [Errno::PROTONOSUPPORT, Errno::ACCESS]] {
            let error = open(|kind| Err(errors[usize::from(kind == SocketType::RAW)])).unwrap_err();
            assert!(matches!(error, IcmpError::NotPermitted(_)), "{error}");
            assert!(error.remedy().unwrap().contains("net.ipv4.ping_group_range"));
        }
        let error = open(|_| Err(Errno::AFNOSUPPORT)).unwrap_err();
        assert!(matches!(error, IcmpError::NoSocket(_)) && error.remedy().is_some(), "{error}");
        let give = |kind| if kind == SocketType::RAW { icmp_stand_in() } else { Err(Errno::ACCESS) };
        assert_eq!(open(give).unwrap().1, SocketType::RAW);
    }

    fn icmp_stand_in() -> Result<OwnedFd, Errno> {
        socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
    }

    #[tokio::test]
    async fn every_kind_of_socket_that_is_allowed_hears_the_echo() {
        let soon = Duration::from_secs(10);
        let has_v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        for address in [Some(V4), has_v6.then_some(V6)].into_iter().flatten() {
            for kind in KINDS {
                match icmp_socket(address, kind) {
                    Ok(socket) => timeout(soon, exchange(socket, kind, address, 7)).await.unwrap().unwrap(),
                    Err(error) => assert!(matches!(error, Errno::PERM | Errno::ACCESS), "{kind:?}: {error}"),
                }
            }
            match timeout(soon, echo(address, 7)).await.unwrap() {
                Ok(()) => {}
                Err(error) => assert!(error.remedy().unwrap().contains("ping_group_range"), "{error}"),
            }
        }
    }
}
