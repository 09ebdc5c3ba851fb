//! Both sides of the handshake against each other, against servers that know less, and against noise.

use proptest::prelude::*;

use super::super::wire::{export_flag, option, option_reply};
use super::client::{ClientHandshake, Progress, Wishes};
use super::server::{Action, ServerHandshake};
use super::*;

/// What a server answers to each option instead of what it would; `None` lets it answer itself.
type Instead = fn(u32) -> Option<u32>;

fn export() -> ExportInfo {
    ExportInfo {
        name: Some("disk".into()),
        description: Some("words".into()),
        size_bytes: 123_456,
        flags: export_flag::HAS_FLAGS | export_flag::SEND_FLUSH | export_flag::SEND_DF,
        block_sizes: BlockSizes { minimum: 512, preferred: 4096, maximum: 1 << 20 },
    }
}

/// Lets the two sides talk until the client has what it wants; the options it sent come along.
fn talk(mut client: ClientHandshake, instead: Instead) -> (Progress, Vec<u32>) {
    let mut server = ServerHandshake::default();
    let mut asked = Vec::new();
    let mut progress = client.on_greeting(&server.greeting()).unwrap();
    let mut sent = match &progress {
        Progress::Send(bytes) => bytes.clone(),
        other => panic!("{other:?}"),
    };
    server.on_client_flags(u32::from_be_bytes(*sent.first_chunk().unwrap())).unwrap();
    sent.drain(..4);
    loop {
        let (header, data) = sent.split_first_chunk().unwrap();
        let header = OptionHeader::decode(header).unwrap();
        assert_eq!(header.length as usize, data.len());
        asked.push(header.option);
        let mut out = Vec::new();
        match instead(header.option) {
            Some(error) => server.answer_refused(header.option, error, "no", &mut out),
            None => serve(&mut server, header.option, data, &mut out),
        }
        if let Progress::SendExportName(_, answer_bytes) = progress {
            assert_eq!(out.len(), answer_bytes);
            return (Progress::Opened(client.on_export_name_answer(&out).unwrap()), asked);
        }
        let mut rest = out.as_slice();
        while let Some((header, after)) = rest.split_first_chunk() {
            let header = OptionReplyHeader::decode(header).unwrap();
            let (data, after) = after.split_at(header.length as usize);
            progress = client.on_reply(header, data).unwrap();
            rest = after;
        }
        sent = match &progress {
            Progress::Send(bytes) | Progress::SendExportName(bytes, _) => bytes.clone(),
            Progress::Wait => panic!("the server said nothing more"),
            _ => return (progress, asked),
        };
    }
}

fn serve(server: &mut ServerHandshake, number: u32, data: &[u8], out: &mut Vec<u8>) {
    match server.on_option(number, data, out).unwrap() {
        Action::Continue | Action::Abort => {}
        Action::List => server.answer_list([("disk", "words"), ("", "")].into_iter(), out),
        Action::Describe(request) if request.name == "disk" => server.answer_info(&request, &export(), out),
        Action::Describe(request) => {
            server.answer_refused(request.option(), option_reply::ERR_UNKNOWN, "unknown", out);
        }
        Action::Meta(request) => server.answer_meta(&request, out),
        Action::ExportName(_) => server.answer_export_name(&export(), out),
    }
}

fn opened(name: &str, wishes: Wishes, instead: Instead) -> (Progress, Vec<u32>) {
    talk(ClientHandshake::open(name, wishes).unwrap(), instead)
}

#[test]
fn everything_is_agreed_on_where_both_can() {
    let (progress, asked) = opened("disk", Wishes::default(), |_| None);
    assert_eq!(asked, [option::EXTENDED_HEADERS, option::SET_META_CONTEXT, option::GO]);
    let Progress::Opened(opened) = progress else { panic!("{progress:?}") };
    assert_eq!(opened.export, export());
    assert_eq!(opened.mode, ReplyMode::Extended);
    assert!(opened.base_allocation.is_some());
}

#[test]
fn what_the_server_does_not_know_is_done_without() {
    let cases: [(Instead, ReplyMode, bool, u64); 3] = [
        (
            |number| (number == option::EXTENDED_HEADERS).then_some(option_reply::ERR_UNSUP),
            ReplyMode::Structured,
            true,
            512,
        ),
        (
            |number| {
                let known = [option::GO, option::EXPORT_NAME].contains(&number);
                (!known).then_some(option_reply::ERR_UNSUP)
            },
            ReplyMode::Simple,
            false,
            512,
        ),
        (|number| (number != option::EXPORT_NAME).then_some(option_reply::ERR_UNSUP), ReplyMode::Simple, false, 1),
    ];
    for (instead, mode, base_allocation, minimum) in cases {
        let (progress, asked) = opened("disk", Wishes::default(), instead);
        let Progress::Opened(opened) = progress else { panic!("{progress:?}") };
        assert_eq!((opened.mode, opened.base_allocation.is_some()), (mode, base_allocation), "{asked:?}");
        assert_eq!(opened.export.size_bytes, 123_456);
        assert_eq!(u64::from(opened.export.block_sizes.minimum), minimum);
        assert_eq!(opened.export.has(export_flag::SEND_DF), mode != ReplyMode::Simple);
    }
}

#[test]
fn a_refusal_keeps_the_servers_words() {
    let (progress, _) = opened("other", Wishes::default(), |_| None);
    assert_eq!(progress, Progress::Refused(option_reply::ERR_UNKNOWN, "unknown".into()));
    let (progress, asked) = talk(ClientHandshake::list(), |_| None);
    let Progress::Listed(listed) = progress else { panic!("{progress:?}") };
    assert_eq!(asked, [option::LIST]);
    assert_eq!((listed[0].name.as_str(), listed[0].description.as_str(), listed.len()), ("disk", "words", 2));
    assert!(ClientHandshake::open(&"x".repeat(5000), Wishes::default()).is_err());
}

#[test]
fn contexts_count_only_for_the_export_they_were_selected_for() {
    let mut server = ServerHandshake::default();
    let mut out = Vec::new();
    serve(&mut server, option::STRUCTURED_REPLY, &[], &mut out);
    let select = encode_meta_request("disk", &["base:allocation", "qemu:dirty-bitmap:x"]);
    serve(&mut server, option::SET_META_CONTEXT, &select, &mut out);
    assert!(server.agreed("disk").base_allocation);
    assert!(!server.agreed("other").base_allocation);
    // A wildcard lists and does not select; a selection that fails forgets the one before.
    let wildcard = encode_meta_request("disk", &["base:"]);
    out.clear();
    serve(&mut server, option::LIST_META_CONTEXT, &wildcard, &mut out);
    assert!(out.windows(15).any(|window| window == b"base:allocation"));
    assert!(server.agreed("disk").base_allocation);
    serve(&mut server, option::SET_META_CONTEXT, &wildcard, &mut out);
    assert!(!server.agreed("disk").base_allocation);
    serve(&mut server, option::SET_META_CONTEXT, &select, &mut out);
    serve(&mut server, option::SET_META_CONTEXT, &select[..9], &mut out);
    assert!(!server.agreed("disk").base_allocation);
}

#[test]
fn a_server_that_breaks_the_rules_is_found_out() {
    let ack = |option| OptionReplyHeader { option, kind: option_reply::ACK, length: 0 };
    let fresh = || {
        let mut client = ClientHandshake::open("disk", Wishes::default()).unwrap();
        client.on_greeting(&encode_greeting()).unwrap();
        client
    };
    assert!(fresh().on_reply(ack(option::GO), &[]).is_err(), "an answer to what was not asked");
    let mut client = fresh();
    client.on_reply(ack(option::EXTENDED_HEADERS), &[]).unwrap();
    client.on_reply(ack(option::SET_META_CONTEXT), &[]).unwrap();
    assert!(client.on_reply(ack(option::GO), &[]).is_err(), "an export without a size");
    let mut oldstyle = encode_greeting();
    oldstyle[8..16].copy_from_slice(&MAGIC_OLDSTYLE.to_be_bytes());
    assert_eq!(decode_greeting(&oldstyle), Err(ProtocolError::Oldstyle));
    for sizes in [(0, 1, 1), (3, 4, 4), (1 << 17, 1 << 17, 1 << 20), (512, 1, 1 << 20), (512, 512, 1)] {
        let sizes = BlockSizes { minimum: sizes.0, preferred: sizes.1, maximum: sizes.2 };
        assert!(sizes.checked().is_err(), "{sizes:?}");
    }
}

proptest! {
    #[test]
    fn options_survive(option: u32, kind: u32, length: u32) {
        let header = OptionHeader { option, length };
        prop_assert_eq!(OptionHeader::decode(&header.encode()).unwrap(), header);
        let header = OptionReplyHeader { option, kind, length };
        prop_assert_eq!(OptionReplyHeader::decode(&header.encode()).unwrap(), header);
    }

    #[test]
    fn a_server_answers_noise(
        options in proptest::collection::vec((0u32..13, proptest::collection::vec(any::<u8>(), 0..60)), 0..20)
    ) {
        let mut server = ServerHandshake::default();
        for (number, data) in options {
            let mut out = Vec::new();
            if let Ok(action) = server.on_option(number, &data, &mut out) {
                prop_assert_eq!(matches!(action, Action::Continue | Action::Abort), !out.is_empty());
            }
        }
    }

    #[test]
    fn a_client_survives_noise(
        replies in proptest::collection::vec((0u32..13, 0u32..6, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..20)
    ) {
        let mut client = ClientHandshake::open("disk", Wishes::default()).unwrap();
        client.on_greeting(&encode_greeting()).unwrap();
        for (option, kind, error, data) in replies {
            let kind = if error { kind | option_reply::ERROR } else { kind };
            let _ = client.on_reply(OptionReplyHeader { option, kind, length: data.len() as u32 }, &data);
        }
        let _ = client.on_export_name_answer(&[1, 2, 3]);
    }
}
