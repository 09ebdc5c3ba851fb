//! The codec of the transmission phase: bytes written by hand, round trips, noise, and the table of refusals.

use proptest::prelude::*;

use super::*;

const MODES: [ReplyMode; 3] = [ReplyMode::Simple, ReplyMode::Structured, ReplyMode::Extended];

#[test]
fn a_compact_request_is_laid_out_as_written_down() {
    let request = Request { flags: 1, command: Command::Write, cookie: 0x0102_0304, offset: 0x1000, length: 0x200 };
    let mut bytes = Vec::new();
    request.encode(ReplyMode::Simple, &mut bytes);
    let expected = [
        &[0x25, 0x60, 0x95, 0x13][..],
        &[0, 1, 0, 1],
        &[0, 0, 0, 0, 1, 2, 3, 4],
        &[0, 0, 0, 0, 0, 0, 0x10, 0],
        &[0, 0, 2, 0],
    ]
    .concat();
    assert_eq!(bytes, expected);
    assert_eq!(bytes.len(), REQUEST_BYTES);
}

#[test]
fn replies_are_laid_out_as_written_down() {
    let mut bytes = Vec::new();
    encode_simple(7, Some(Errno::NoSpace), &mut bytes);
    assert_eq!(bytes, [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, 7]);
    let header = ChunkHeader { done: true, kind: chunk::OFFSET_HOLE, cookie: 7, offset: 9, length: 12 };
    let mut bytes = Vec::new();
    header.encode(false, &mut bytes);
    assert_eq!(bytes, [0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 12]);
    let mut bytes = Vec::new();
    header.encode(true, &mut bytes);
    assert_eq!(bytes.len(), REPLY_EXTENDED_BYTES);
    assert_eq!(bytes[..4], [0x6e, 0x8a, 0x27, 0x8c]);
    assert_eq!(bytes[16..24], [0, 0, 0, 0, 0, 0, 0, 9]);
}

fn export(flags: u16) -> ExportInfo {
    ExportInfo { size_bytes: 1 << 30, flags: export_flag::HAS_FLAGS | flags, ..ExportInfo::default() }
}

#[test]
fn what_may_be_carried_out_is_a_table() {
    use Command::{BlockStatus, Cache, Flush, Read, Trim, Unknown, Write, WriteZeroes};
    let end = 1u64 << 30;
    let (invalid, full, locked) = (Some(Errno::Invalid), Some(Errno::NoSpace), Some(Errno::NotPermitted));
    let read_only = export_flag::READ_ONLY;
    let cases = [
        (Read, 0, 0, 512, 0, None),
        (Read, 0, end, 0, 0, None),
        (Read, 0, end, 1, 0, invalid),
        (Read, 0, u64::MAX, u64::MAX, 0, invalid),
        (Read, command_flag::DF, 0, 512, 0, None),
        (Read, command_flag::FUA, 0, 512, 0, None),
        (Read, command_flag::REQ_ONE, 0, 512, 0, invalid),
        (Read, 0, 0, (32 << 20) + 1, 0, Some(Errno::Overflow)),
        (Write, command_flag::FUA, 0, 512, 0, None),
        (Write, 0, end - 1, 2, 0, full),
        (Write, 0, 0, 512, read_only, locked),
        (WriteZeroes, command_flag::NO_HOLE | command_flag::FAST_ZERO, 0, end, 0, None),
        (WriteZeroes, 0, 0, end + 1, 0, full),
        (WriteZeroes, 0, 0, 1, read_only, locked),
        (Trim, 0, 0, end, 0, None),
        (Trim, 0, 1, end, 0, invalid),
        (Trim, 0, 0, 1, read_only, locked),
        (Flush, 0, 0, 0, read_only, None),
        (Flush, command_flag::DF, 0, 0, 0, invalid),
        (BlockStatus, command_flag::REQ_ONE, 0, end, 0, None),
        (BlockStatus, 0, 1, end, 0, invalid),
        (Cache, 0, 0, 1, 0, invalid),
        (Unknown(8), 0, 0, 1, 0, invalid),
    ];
    for (command, flags, offset, length, export_flags, expected) in cases {
        let request = Request { flags, command, cookie: 0, offset, length };
        let found = admit(&request, &export(export_flags), ReplyMode::Structured, true).err().map(|r| r.errno);
        assert_eq!(found, expected, "{request:?}");
    }
    let status = Request { flags: 0, command: BlockStatus, cookie: 0, offset: 0, length: 1 };
    assert!(admit(&status, &export(0), ReplyMode::Structured, false).is_err(), "no context was selected");
}

#[test]
fn only_payloads_within_the_limit_are_awaited() {
    let payload = |command, flags, length, mode| {
        Request { flags, command, cookie: 0, offset: 0, length }.payload_bytes(mode, 1000).ok()
    };
    assert_eq!(payload(Command::Write, 0, 1000, ReplyMode::Simple), Some(1000));
    assert_eq!(payload(Command::Write, 0, 1001, ReplyMode::Simple), None);
    assert_eq!(payload(Command::Read, 0, 1001, ReplyMode::Simple), Some(0));
    assert_eq!(payload(Command::Write, 0, 5, ReplyMode::Extended), Some(5));
    assert_eq!(payload(Command::Trim, command_flag::PAYLOAD_LEN, 5, ReplyMode::Extended), Some(5));
    assert_eq!(payload(Command::Trim, command_flag::PAYLOAD_LEN, u64::MAX, ReplyMode::Extended), None);
    assert_eq!(payload(Command::Trim, command_flag::PAYLOAD_LEN, 5, ReplyMode::Structured), Some(0));
}

#[test]
fn impossible_status_chunks_are_refused() {
    let chunk = |lengths: &[u32]| {
        let mut payload = 1u32.to_be_bytes().to_vec();
        for length in lengths {
            payload.extend_from_slice(&length.to_be_bytes());
            payload.extend_from_slice(&0u32.to_be_bytes());
        }
        payload
    };
    assert!(decode_status(&chunk(&[1, 2]), 0, false).is_ok());
    assert!(decode_status(&chunk(&[]), 0, false).is_err(), "no region");
    assert!(decode_status(&chunk(&[1, 0]), 0, false).is_err(), "an empty region");
    assert!(decode_status(&chunk(&[1, 2])[..15], 0, false).is_err(), "half a region");
    assert!(decode_status(&chunk(&[10]), u64::MAX - 5, false).is_err(), "past all offsets");
    let mut counted = encode_status(1, &[Region::new(0, 4, RegionState::Hole)], true);
    assert!(decode_status(&counted, 0, true).is_ok());
    counted[7] = 9;
    assert!(decode_status(&counted, 0, true).is_err(), "a wrong count");
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let message = "ü".repeat(5000);
    let (errno, text) = decode_error(&encode_error(Errno::Io, &message)).unwrap();
    assert_eq!(errno, Errno::Io);
    assert_eq!(text, "ü".repeat(2048));
}

fn regions() -> impl Strategy<Value = Vec<Region>> {
    let states = vec![RegionState::Data, RegionState::Zero, RegionState::Hole];
    proptest::collection::vec((1u32.., proptest::sample::select(states)), 1..50).prop_map(|parts| {
        let mut at = 0;
        let region = |(length, state): (u32, RegionState)| {
            let region = Region::new(at, length.into(), state);
            at = region.extent.end();
            region
        };
        parts.into_iter().map(region).collect()
    })
}

proptest! {
    #[test]
    fn requests_survive(flags: u16, code: u16, cookie: u64, offset: u64, length: u32) {
        let command = Command::from_code(code);
        prop_assert_eq!(command.code(), code);
        let request = Request { flags, command, cookie, offset, length: length.into() };
        for mode in MODES {
            let mut bytes = Vec::new();
            request.encode(mode, &mut bytes);
            prop_assert_eq!(bytes.len(), Request::header_bytes(mode));
            prop_assert_eq!(Request::decode(&bytes, mode).unwrap(), request);
        }
    }

    #[test]
    fn chunks_survive(done: bool, kind: u16, cookie: u64, offset: u64, length: u32, extended: bool) {
        let offset = if extended { offset } else { 0 };
        let header = ChunkHeader { done, kind, cookie, offset, length: length.into() };
        let mut bytes = Vec::new();
        header.encode(extended, &mut bytes);
        let mode = if extended { ReplyMode::Extended } else { ReplyMode::Structured };
        prop_assert_eq!(ReplyHeader::header_bytes(*bytes.first_chunk().unwrap(), mode).unwrap(), bytes.len());
        prop_assert_eq!(ReplyHeader::decode(&bytes).unwrap(), ReplyHeader::Chunk(header));
    }

    #[test]
    fn status_and_errors_survive(regions in regions(), context: u32, extended: bool, message in ".{0,200}") {
        let payload = encode_status(context, &regions, extended);
        prop_assert_eq!(decode_status(&payload, 0, extended).unwrap(), (context, regions));
        let payload = encode_error(Errno::NotSupported, &message);
        prop_assert_eq!(decode_error(&payload).unwrap(), (Errno::NotSupported, message));
    }

    #[test]
    fn noise_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), offset: u64) {
        for mode in MODES {
            let _ = Request::decode(&bytes, mode);
        }
        let _ = ReplyHeader::decode(&bytes);
        let _ = decode_error(&bytes);
        let _ = decode_status(&bytes, offset, false);
        let _ = decode_status(&bytes, offset, true);
    }

    #[test]
    fn any_request_is_judged(flags: u16, code in 0u16..10, offset: u64, length: u64, export_flags: u16, context: bool) {
        let request = Request { flags, command: Command::from_code(code), cookie: 0, offset, length };
        for mode in MODES {
            if admit(&request, &export(export_flags), mode, context).is_ok() && request.command != Command::Flush {
                prop_assert!(offset.checked_add(length).unwrap() <= 1 << 30);
                prop_assert!(!request.command.changes_content() || export_flags & export_flag::READ_ONLY == 0);
            }
        }
    }
}
