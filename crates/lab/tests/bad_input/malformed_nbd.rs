//! NBD that is none, on the local port and behind TLS: the peer gets the protocol's own error or loses its connection.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tunnel::{AgentIdentity, Dialer, HubAddress};

use crate::site::{DEADLINE, Site};

/// The NBD protocol's numbers (doc/proto.md).
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const FLAGS: u32 = 3;
const OPT_LIST: u32 = 3;
const OPT_GO: u32 = 7;
const REP_ACK: u32 = 1;
const ERR_UNSUP: u32 = 0x8000_0001;
const ERR_INVALID: u32 = 0x8000_0003;
const ERR_UNKNOWN: u32 = 0x8000_0006;
const EPERM: u32 = 1;
const EINVAL: u32 = 22;
/// Bytes of the server's greeting.
const GREETING_BYTES: usize = 18;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where NBD is spoken.
enum Port {
    Local(std::net::SocketAddr),
    Tls(Box<Dialer>),
}

impl Port {
    async fn dial(&self) -> Box<dyn Stream> {
        let mut stream: Box<dyn Stream> = match self {
            Self::Local(address) => Box::new(TcpStream::connect(address).await.unwrap()),
            Self::Tls(dialer) => Box::new(dialer.dial_nbd_stream().await.unwrap()),
        };
        let mut greeting = [0; GREETING_BYTES];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
        stream
    }
}

/// Everything of this file; `export` is open for the agent at the moment.
pub async fn all(site: &Site, export: &str) {
    let identity = AgentIdentity::load(&site.dir().join("agent")).unwrap().unwrap();
    let hub = HubAddress::parse(&site.world.hub_address()).unwrap();
    let tls = Port::Tls(Box::new(Dialer::new(hub, &identity).unwrap()));
    let local = Port::Local(site.world.local_nbd_address());
    for port in [&local, &tls] {
        handshakes(port).await;
    }
    transmission(&local, export).await;
    no_tls_at_all(site).await;
    no_certificate(site, &identity).await;
}

/// What a client can get wrong before it has an export.
async fn handshakes(port: &Port) {
    let bad_magic = [FLAGS.to_be_bytes().as_slice(), b"NOTMAGIC\0\0\0\x03\0\0\0\0"].concat();
    let endless = [FLAGS.to_be_bytes().as_slice(), &option(OPT_GO, u32::MAX, &[])].concat();
    for fatal in [u32::MAX.to_be_bytes().to_vec(), bad_magic, endless] {
        let mut stream = port.dial().await;
        stream.write_all(&fatal).await.unwrap();
        ends(&mut stream).await;
    }
    let mut stream = port.dial().await;
    stream.write_all(&FLAGS.to_be_bytes()).await.unwrap();
    // A name that is longer than the option that holds it.
    let overrun = [1000_u32.to_be_bytes().as_slice(), b"short\0\0"].concat();
    let unknown = go("no-such-export");
    for (number, data, expected) in [
        (OPT_GO, overrun.as_slice(), ERR_INVALID),
        (OPT_GO, &[], ERR_INVALID),
        (0x7fff, b"whatever", ERR_UNSUP),
        (OPT_LIST, b"no data belongs here", ERR_INVALID),
        (OPT_GO, &unknown, ERR_UNKNOWN),
    ] {
        let length = u32::try_from(data.len()).unwrap();
        stream.write_all(&option(number, length, data)).await.unwrap();
        assert_eq!(reply(&mut stream).await, expected, "option {number}");
    }
}

/// What a client can get wrong with an open export: errors of single requests, then the end.
async fn transmission(port: &Port, export: &str) {
    let mut stream = port.dial().await;
    let data = go(export);
    stream.write_all(&FLAGS.to_be_bytes()).await.unwrap();
    stream.write_all(&option(OPT_GO, u32::try_from(data.len()).unwrap(), &data)).await.unwrap();
    while reply(&mut stream).await != REP_ACK {}
    let (read, write, nonsense) = (0, 1, 99);
    for (command, offset, length, expected) in [
        (read, u64::MAX - 10, 4096, EINVAL),
        (read, 1 << 50, 512, EINVAL),
        (nonsense, 0, 0, EINVAL),
        (write, 0, 512, EPERM),
    ] {
        stream.write_all(&request(REQUEST_MAGIC, command, offset, length)).await.unwrap();
        if command == write {
            stream.write_all(&vec![0xee; usize::try_from(length).unwrap()]).await.unwrap();
        }
        let mut answer = [0; 16];
        tokio::time::timeout(DEADLINE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        let number = |at: usize| u32::from_be_bytes(answer[at..at + 4].try_into().unwrap());
        assert_eq!((number(0), number(4)), (SIMPLE_REPLY_MAGIC, expected), "command {command} at {offset}");
    }
    stream.write_all(&request(0xdead_beef, read, 0, 512)).await.unwrap();
    ends(&mut stream).await;
}

/// Bytes on the public port that are no TLS.
async fn no_tls_at_all(site: &Site) {
    let half_a_record = b"\x16\x03\x01\xff\xff\x01";
    for garbage in [b"GET / HTTP/1.1\r\nhost: hub\r\n\r\n".as_slice(), b"NBDMAGIC", &[0xff; 70_000], half_a_record] {
        let mut stream = TcpStream::connect(site.world.hub_address()).await.unwrap();
        // The hub may hang up before it has read everything.
        let _ = stream.write_all(garbage).await;
        let _ = stream.shutdown().await;
        ends(&mut stream).await;
    }
}

/// TLS by the book, and no certificate of the hub's CA, or a protocol the hub does not speak.
async fn no_certificate(site: &Site, identity: &AgentIdentity) {
    let hub = site.world.hub_address();
    for protocol in ["nbd", "migratekit-agent/1", "bogus/1"] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(identity.hub_ca().clone()).unwrap();
        let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let tcp = TcpStream::connect(&hub).await.unwrap();
        let name = "127.0.0.1".try_into().unwrap();
        // In TLS 1.3 the client is done before the server has missed the certificate: then the first read says it.
        let Ok(mut stream) = TlsConnector::from(Arc::new(config)).connect(name, tcp).await else { continue };
        let mut first = [0; 1];
        let read = tokio::time::timeout(DEADLINE, stream.read(&mut first)).await.unwrap();
        assert!(!matches!(read, Ok(1..)), "{protocol}: the hub speaks to a stranger");
    }
}

fn option(number: u32, length: u32, data: &[u8]) -> Vec<u8> {
    [&OPTION_MAGIC.to_be_bytes()[..], &number.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

fn go(export: &str) -> Vec<u8> {
    [&u32::try_from(export.len()).unwrap().to_be_bytes()[..], export.as_bytes(), &[0, 0]].concat()
}

fn request(magic: u32, command: u16, offset: u64, length: u32) -> Vec<u8> {
    let cookie = 0x0102_0304_0506_0708_u64;
    let head = [&magic.to_be_bytes()[..], &[0, 0], &command.to_be_bytes()].concat();
    [&head[..], &cookie.to_be_bytes(), &offset.to_be_bytes(), &length.to_be_bytes()].concat()
}

/// Reads one reply to an option and gives its type.
async fn reply(stream: &mut Box<dyn Stream>) -> u32 {
    let mut head = [0; 20];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut head)).await.unwrap().unwrap();
    assert_eq!(head[..8], REPLY_MAGIC.to_be_bytes());
    let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
    let mut data = vec![0; usize::try_from(number(16)).unwrap()];
    stream.read_exact(&mut data).await.unwrap();
    number(12)
}

/// The hub ends the connection; what it says before does not matter.
async fn ends(stream: &mut (impl AsyncRead + Unpin + ?Sized)) {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "the connection stays open");
}
