//! The data plane's connections: our record layer against itself and against rustls's own.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use model::CompressionMode;
use nbd::channel::{Channel, Intake};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tunnel::route::RouteClass;
use tunnel::{DataLink, Dialer, HubAddress, Pacer, Refusal, TunnelError};

use crate::support::{Hub, soon};

/// More than any buffer on the way holds.
const LONG: usize = 3 * (1 << 20) + 17;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// Reads that many bytes.
fn read(channel: &mut impl Channel, length: usize) -> io::Result<Vec<u8>> {
    let mut intake = Intake::new(1 << 16);
    let mut all = Vec::new();
    while all.len() < length {
        if channel.receive(&mut intake)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let arrived = intake.filled().len();
        all.extend_from_slice(intake.take(arrived));
    }
    Ok(all)
}

/// Greets, then sends everything back that comes, until the end; on a thread of its own.
fn echo(mut channel: impl Channel + 'static) -> JoinHandle<io::Result<u64>> {
    std::thread::spawn(move || {
        channel.send(&[b"NBDMAGIC"])?;
        let mut intake = Intake::new(1 << 18);
        let mut echoed = 0;
        while channel.receive(&mut intake)? > 0 {
            let arrived = intake.filled().len();
            channel.send(&[intake.take(arrived)])?;
            echoed += arrived as u64;
        }
        channel.finish();
        Ok(echoed)
    })
}

/// How the echo ended.
async fn end_of(echoing: JoinHandle<io::Result<u64>>) -> io::Result<u64> {
    let died = |_| io::Error::other("the echo died");
    let joined = tokio::task::spawn_blocking(move || echoing.join().map_err(died)?);
    soon("the end of the echo", joined).await.map_err(io::Error::other)?
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_of_ours() {
    let mut hub = Hub::start().await;
    let agent = hub.enrol("e-1");
    let dialer = hub.dialer(&agent);
    let serve = async {
        let accepted = hub.next_nbd().await;
        assert_eq!(accepted.peer, *agent.identity.facts());
        echo(accepted.channel)
    };
    let (dialled, echoing) = soon("the dial", async { tokio::join!(dialer.dial_nbd(), serve) }).await;
    let mut channel = dialled.unwrap();
    let talking = tokio::task::spawn_blocking(move || {
        assert_eq!(read(&mut channel, 8).unwrap(), b"NBDMAGIC");
        for length in [1, 16_384, 16_385, 100_000] {
            let sent = pattern(length);
            let (head, body) = sent.split_at(length / 3);
            channel.send(&[head, &[], body]).unwrap();
            assert!(read(&mut channel, length).unwrap() == sent, "{length}");
        }
        channel.finish();
        let mut intake = Intake::new(0);
        assert_eq!(channel.receive(&mut intake).unwrap(), 0, "a goodbye is an end, not an error");
    });
    soon("the talk", talking).await.unwrap();
    assert_eq!(end_of(echoing).await.unwrap(), 1 + 16_384 + 16_385 + 100_000);
}

/// rustls's own record layer on the agent's side, through more than any buffer holds, and through its key updates.
#[tokio::test(flavor = "multi_thread")]
async fn rustls_at_the_other_end() {
    let mut hub = Hub::start().await;
    let agent = hub.enrol("e-1");
    let dialer = hub.dialer(&agent);
    let serve = async { echo(hub.next_nbd().await.channel) };
    let (dialled, echoing) = soon("the dial", async { tokio::join!(dialer.dial_nbd_stream(), serve) }).await;
    let mut stream = dialled.unwrap();
    let mut greeting = [0; 8];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"NBDMAGIC");
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sent = pattern(LONG);
    let writing = tokio::spawn(async move {
        for piece in sent.chunks(200_000) {
            writer.write_all(piece).await.unwrap();
        }
        writer.flush().await.unwrap();
        writer
    });
    let mut back = vec![0; LONG];
    soon("the echo", reader.read_exact(&mut back)).await.unwrap();
    assert!(back == pattern(LONG));
    let mut stream = reader.unsplit(writing.await.unwrap());
    // A key update that asks for one in return: both directions change keys, and everything still arrives.
    for round in 0..3 {
        stream.get_mut().1.refresh_traffic_keys().unwrap();
        let sent = pattern(70_000 + round);
        stream.write_all(&sent).await.unwrap();
        stream.flush().await.unwrap();
        let mut back = vec![0; sent.len()];
        soon("the echo", stream.read_exact(&mut back)).await.unwrap();
        assert!(back == sent, "after key update {round}");
    }
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "the hub says goodbye, too");
    assert!(end_of(echoing).await.unwrap() > LONG as u64);
}

/// Bytes changed on the way end the connection; nothing of them is handed out.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_is_no_clean_end() {
    let mut hub = Hub::start().await;
    let agent = hub.enrol("e-1");
    let dialer = hub.dialer(&agent);
    let serve = async { echo(hub.next_nbd().await.channel) };
    let (dialled, echoing) = soon("the dial", async { tokio::join!(dialer.dial_nbd(), serve) }).await;
    let channel = dialled.unwrap();
    channel.hangup().unwrap().cut();
    drop(channel);
    let error = end_of(echoing).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
}

/// A connection in frames: what is asked for is agreed on, everything arrives, and what was sent is counted.
#[tokio::test(flavor = "multi_thread")]
async fn compressed_where_both_ends_can() {
    let mut hub = Hub::start().await;
    let agent = hub.enrol("e-1");
    let dialer = hub.dialer(&agent);
    for (compression, is_framed) in
        [(CompressionMode::On, true), (CompressionMode::Auto, true), (CompressionMode::Off, false)]
    {
        let link = DataLink { compression, ..DataLink::default() };
        let serve = async { echo(hub.next_nbd().await.channel) };
        let (dialled, echoing) = soon("the dial", async { tokio::join!(dialer.dial_data(&link), serve) }).await;
        let mut channel = dialled.unwrap();
        assert_eq!(channel.is_framed(), is_framed);
        let talking = tokio::task::spawn_blocking(move || {
            assert_eq!(read(&mut channel, 8).unwrap(), b"NBDMAGIC");
            let sent = pattern(LONG);
            // Less than is kept on the way: nobody reads meanwhile.
            for piece in sent.chunks(60_000) {
                channel.send(&[&piece[..28], &piece[28..]]).unwrap();
                assert!(read(&mut channel, piece.len()).unwrap() == piece);
            }
            channel.finish();
            let mut intake = Intake::new(0);
            assert_eq!(channel.receive(&mut intake).unwrap(), 0);
        });
        soon("the talk", talking).await.unwrap();
        assert_eq!(end_of(echoing).await.unwrap(), LONG as u64);
        let on_wire = link.meter.view().bytes_on_wire;
        assert_eq!(on_wire < LONG as u64 / 2, is_framed, "{compression}: {on_wire} of {LONG}");
    }
}

/// A hub of the time before there were frames.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_hub_is_spoken_to_as_it_can() {
    let hub = Hub::start().await;
    let agent = hub.enrol("e-1");
    let mut config = ServerConfig::clone(&hub.tls.config(RouteClass::Nbd));
    config.alpn_protocols = vec![b"nbd".to_vec()];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = HubAddress::parse(&listener.local_addr().unwrap().to_string()).unwrap();
    let dialer = Dialer::new(address, &agent.identity).unwrap();
    let serve = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut stream = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(tcp).await.unwrap();
        stream.write_all(b"NBDMAGIC").await.unwrap();
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await.unwrap();
        heard
    };
    let link = DataLink { compression: CompressionMode::On, ..DataLink::default() };
    let talk = async {
        let mut channel = dialer.dial_data(&link).await.unwrap();
        assert!(!channel.is_framed());
        let talking = tokio::task::spawn_blocking(move || {
            assert_eq!(read(&mut channel, 8).unwrap(), b"NBDMAGIC");
            channel.send(&[b"hello"]).unwrap();
            channel
        });
        talking.await.unwrap()
    };
    let (_channel, heard) = soon("the talk", async { tokio::join!(talk, serve) }).await;
    assert_eq!(&heard, b"hello");
}

/// A refusal stands before any frame.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_understood_where_frames_were_agreed_on() {
    let mut hub = Hub::start().await;
    let agent = hub.enrol("e-1");
    let dialer = hub.dialer(&agent);
    let link = DataLink::default();
    let refuse = async { tunnel::refusal::refuse_channel(hub.next_nbd().await.channel, Refusal::Revoked).await };
    let (dialled, ()) = soon("the refusal", async { tokio::join!(dialer.dial_data(&link), refuse) }).await;
    assert!(matches!(dialled.unwrap_err(), TunnelError::Refused { reason: Refusal::Revoked, .. }));
}

/// What waits for its turn under a limit does not wait on when its connection is cut.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_does_not_wait_for_its_turn() {
    let mut hub = Hub::start().await;
    let agent = hub.enrol("e-1");
    let dialer = hub.dialer(&agent);
    let pacer = Pacer::default();
    let link = DataLink { pace: Some(pacer.job(None).disk()), ..DataLink::default() };
    let serve = async { echo(hub.next_nbd().await.channel) };
    let (dialled, echoing) = soon("the dial", async { tokio::join!(dialer.dial_data(&link), serve) }).await;
    let mut channel = dialled.unwrap();
    let hangup = channel.hangup().unwrap();
    pacer.set_limit(Some(1));
    let sending = tokio::task::spawn_blocking(move || {
        let noise: Vec<u8> = (0..LONG).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect();
        channel.send(&[&noise])
    });
    hangup.cut();
    assert!(soon("the end of the sender", sending).await.unwrap().is_err());
    assert!(end_of(echoing).await.is_err());
}
