//! Bytes that are not NBD, or are NBD gone wrong: an error or the end of that connection, and nothing for the others.

use std::time::Duration;

use nbd::client::Client;
use nbd::proto::handshake::{OptionHeader, OptionReplyHeader, ReplyMode};
use nbd::proto::transmission::{ReplyHeader, Request};
use nbd::proto::wire::{Command, Errno, MAGIC_OPTION, command_flag, option, option_reply};
use nbd::server::{Limits, ServeOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::harness::{Exports, PROGRAM_TIMEOUT, Served};

const SIZE_BYTES: u64 = 1 << 20;

/// Sends bytes and reads whatever comes until the server hangs up.
async fn answered(served: &Served, bytes: &[u8]) -> Vec<u8> {
    let mut stream = served.raw().await;
    // The server may hang up before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(PROGRAM_TIMEOUT, stream.read_to_end(&mut answer)).await;
    // A reset is a way of hanging up as well.
    let _ = reading.expect("the server hangs up");
    answer
}

async fn still_serves(served: &Served) {
    let client = Client::connect(&served.uri).await.unwrap();
    client.write(0, &[5; 4096]).await.unwrap();
    assert_eq!(client.read_into(0, vec![0; 4096]).await.unwrap(), [5; 4096]);
    client.close().await;
}

fn option_bytes(number: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = OptionHeader { option: number, length: data.len() as u32 }.encode().to_vec();
    bytes.extend_from_slice(data);
    bytes
}

fn client_flags() -> Vec<u8> {
    3u32.to_be_bytes().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_handshake_ends_its_connection_only() {
    let (_device, exports) = Exports::memory(SIZE_BYTES);
    let served = Served::unix(exports);
    let huge = [&MAGIC_OPTION.to_be_bytes()[..], &option::GO.to_be_bytes(), &u32::MAX.to_be_bytes()].concat();
    let cases: [(&str, Vec<u8>); 6] = [
        ("unknown flags", 0xffu32.to_be_bytes().to_vec()),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("wrong magic", [client_flags(), vec![0x11; 16]].concat()),
        ("an option of 4 GiB", [client_flags(), huge].concat()),
        ("an export name too long", [client_flags(), option_bytes(option::EXPORT_NAME, &[b'x'; 70_000])].concat()),
        ("an unknown export by its name", [client_flags(), option_bytes(option::EXPORT_NAME, b"nope")].concat()),
    ];
    for (what, bytes) in cases {
        let answer = answered(&served, &bytes).await;
        assert_eq!(answer.len(), 18, "{what}: only the greeting was sent");
    }
    still_serves(&served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_cannot_be_granted_are_answered() {
    let (_device, exports) = Exports::memory(SIZE_BYTES);
    let served = Served::unix(exports);
    let meta_of_default = [&0u32.to_be_bytes()[..], &0u32.to_be_bytes()].concat();
    let cases: [(&str, u32, Vec<u8>, u32); 9] = [
        ("an unknown option", 4242, b"abc".to_vec(), option_reply::ERR_UNSUP),
        ("STARTTLS", option::STARTTLS, vec![], option_reply::ERR_UNSUP),
        ("LIST with data", option::LIST, vec![1], option_reply::ERR_INVALID),
        ("GO without data", option::GO, vec![], option_reply::ERR_INVALID),
        ("GO with a name beyond its end", option::GO, 100u32.to_be_bytes().to_vec(), option_reply::ERR_INVALID),
        ("GO with trailing bytes", option::GO, vec![0, 0, 0, 0, 0, 0, 9], option_reply::ERR_INVALID),
        ("a long option", option::GO, vec![0; 70_000], option_reply::ERR_TOO_BIG),
        ("contexts without structured replies", option::SET_META_CONTEXT, meta_of_default, option_reply::ERR_INVALID),
        (
            "GO of an unknown export",
            option::GO,
            [&3u32.to_be_bytes()[..], b"abc", &[0, 0]].concat(),
            option_reply::ERR_UNKNOWN,
        ),
    ];
    for (what, number, data, expected) in cases {
        let mut stream = served.raw().await;
        stream.write_all(&[client_flags(), option_bytes(number, &data)].concat()).await.unwrap();
        stream.read_exact(&mut [0; 18]).await.unwrap();
        let mut header = [0; 20];
        stream.read_exact(&mut header).await.unwrap();
        let header = OptionReplyHeader::decode(&header).unwrap();
        assert_eq!((header.option, header.kind), (number, expected), "{what}");
        stream.read_exact(&mut vec![0; header.length as usize]).await.unwrap();
        // The handshake goes on.
        stream.write_all(&option_bytes(option::ABORT, &[])).await.unwrap();
        let mut goodbye = Vec::new();
        stream.read_to_end(&mut goodbye).await.unwrap();
        assert_eq!(goodbye.len(), 20, "{what}: the goodbye is answered");
    }
    still_serves(&served).await;
}

/// A connection in the transmission phase with simple replies.
async fn transmitting(served: &Served) -> UnixStream {
    let mut stream = served.raw().await;
    stream.write_all(&[client_flags(), option_bytes(option::EXPORT_NAME, b"")].concat()).await.unwrap();
    stream.read_exact(&mut [0; 28]).await.unwrap();
    stream
}

fn request(command: Command, flags: u16, offset: u64, length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    Request { flags, command, cookie: 77, offset, length }.encode(ReplyMode::Simple, &mut bytes);
    bytes
}

async fn simple_reply(stream: &mut UnixStream) -> Option<Errno> {
    let mut bytes = [0; 16];
    tokio::time::timeout(PROGRAM_TIMEOUT, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
    match ReplyHeader::decode(&bytes).unwrap() {
        ReplyHeader::Simple { cookie: 77, errno } => errno,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_answered_and_the_connection_goes_on() {
    let (_device, exports) = Exports::memory(SIZE_BYTES);
    let served = Served::unix(exports);
    let mut stream = transmitting(&served).await;
    let write =
        |offset: u64, length: usize| [request(Command::Write, 0, offset, length as u64), vec![1; length]].concat();
    let cases: [(&str, Vec<u8>, Errno); 13] = [
        ("read beyond the end", request(Command::Read, 0, SIZE_BYTES - 1, 2), Errno::Invalid),
        ("read with a wrapping offset", request(Command::Read, 0, u64::MAX, 2), Errno::Invalid),
        ("write beyond the end", write(SIZE_BYTES - 10, 20), Errno::NoSpace),
        ("zeroes beyond the end", request(Command::WriteZeroes, 0, 0, SIZE_BYTES + 1), Errno::NoSpace),
        ("trim beyond the end", request(Command::Trim, 0, SIZE_BYTES, 1), Errno::Invalid),
        ("an unknown command", request(Command::Unknown(999), 0, 0, 0), Errno::Invalid),
        ("cache, which was not offered", request(Command::Cache, 0, 0, 512), Errno::Invalid),
        ("an unknown flag", request(Command::Read, 1 << 12, 0, 1), Errno::Invalid),
        ("a flag of another command", request(Command::Trim, command_flag::NO_HOLE, 0, 1), Errno::Invalid),
        ("DF without structured replies", request(Command::Read, command_flag::DF, 0, 1), Errno::Invalid),
        ("block status without a context", request(Command::BlockStatus, 0, 0, 1), Errno::Invalid),
        ("a bad flag of a write", [request(Command::Write, 1 << 9, 0, 3), vec![1; 3]].concat(), Errno::Invalid),
        (
            "fast zeroes that must not be holes",
            request(Command::WriteZeroes, command_flag::FAST_ZERO | command_flag::NO_HOLE, 0, 4096),
            Errno::NotSupported,
        ),
    ];
    for (what, bytes, errno) in cases {
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(simple_reply(&mut stream).await, Some(errno), "{what}");
    }
    for bytes in [
        request(Command::Flush, command_flag::FUA, 0, 0),
        request(Command::WriteZeroes, command_flag::FAST_ZERO, 0, 4096),
        request(Command::Read, 0, 0, 0),
        [request(Command::Write, command_flag::FUA, 0, 3), vec![1; 3]].concat(),
    ] {
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(simple_reply(&mut stream).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_past_ends_the_connection() {
    let (_device, exports) = Exports::memory(SIZE_BYTES);
    let served = Served::unix(exports);
    let cases = [
        ("a payload of 4 GiB", request(Command::Write, 0, 0, u64::from(u32::MAX))),
        ("a payload above the limit", request(Command::Write, 0, 0, (32 << 20) + 1)),
        ("a wrong magic number", vec![0x42; 28]),
    ];
    for (what, bytes) in cases {
        let mut stream = transmitting(&served).await;
        stream.write_all(&bytes).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PROGRAM_TIMEOUT, stream.read_to_end(&mut rest)).await;
        let _ = ended.unwrap_or_else(|_elapsed| panic!("{what}: the server hangs up"));
        assert!(rest.is_empty(), "{what}");
    }
    still_serves(&served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_closed_connection_gets_its_answers() {
    let (_device, exports) = Exports::memory(SIZE_BYTES);
    let served = Served::unix(exports);
    let mut stream = transmitting(&served).await;
    for _ in 0..10 {
        stream.write_all(&request(Command::Read, 0, 0, 100_000)).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).await.unwrap();
    assert_eq!(answers.len(), 10 * (16 + 100_000));
    // In the middle of a request there is nothing to answer.
    for cut in [10, 28, 1000] {
        let mut stream = transmitting(&served).await;
        let whole = [request(Command::Write, 0, 0, 4096), vec![1; 4096]].concat();
        stream.write_all(&whole[..cut]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    }
    still_serves(&served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_is_not_waited_for() {
    let (_device, exports) = Exports::memory(SIZE_BYTES);
    let limits = Limits { handshake_timeout: Duration::from_millis(50), ..Limits::default() };
    let served = Served::unix_with(exports, ServeOptions { limits, ..ServeOptions::default() });
    let answer = answered(&served, &[]).await;
    assert_eq!(answer.len(), 18);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_no_answers_is_held_back_and_harms_nobody() {
    let (_device, exports) = Exports::memory(SIZE_BYTES);
    let served = Served::unix(exports);
    let mut stream = transmitting(&served).await;
    let many: Vec<u8> = (0..200).flat_map(|_| request(Command::Read, 0, 0, SIZE_BYTES)).collect();
    stream.write_all(&many).await.unwrap();
    still_serves(&served).await;
    drop(stream);
    still_serves(&served).await;
}
