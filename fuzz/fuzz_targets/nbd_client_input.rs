//! Whatever a server may answer: every request must end, without a panic, with what was asked for or an error.

#![no_main]

use std::io::Cursor;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use model::Extent;
use nbd::client::{Client, ClientOptions, Wishes};
use nbd::proto::handshake::server::{Action, ServerHandshake};
use nbd::proto::handshake::{ExportInfo, encode_meta_request};
use nbd::proto::wire::{export_flag, option, option_reply};
use tokio::runtime::{Builder, Runtime};

const SIZE_BYTES: u64 = 1 << 20;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime can be built"));

fn export() -> ExportInfo {
    let flags = export_flag::HAS_FLAGS
        | export_flag::SEND_FLUSH
        | export_flag::SEND_TRIM
        | export_flag::SEND_WRITE_ZEROES
        | export_flag::SEND_DF;
    ExportInfo { size_bytes: SIZE_BYTES, flags, ..ExportInfo::default() }
}

/// The server's part of a handshake that ends where the input takes over, and what the client has to ask for.
fn opening(kind: u8) -> (Vec<u8>, Wishes) {
    let mut server = ServerHandshake::default();
    let mut out = Vec::new();
    if kind > 0 {
        out.extend_from_slice(&server.greeting());
    }
    let extended_headers = kind == 0 || kind == 3;
    let structured_replies = kind != 1;
    let wishes = Wishes { extended_headers, structured_replies, base_allocation: structured_replies };
    let mut answer = |number: u32, data: &[u8]| match server.on_option(number, data, &mut out) {
        Ok(Action::Describe(request)) => server.answer_info(&request, &export(), &mut out),
        Ok(Action::Meta(request)) => server.answer_meta(&request, &mut out),
        Ok(_) => {}
        Err(_) => server.answer_refused(number, option_reply::ERR_INVALID, "", &mut out),
    };
    if kind > 1 {
        answer(if kind == 2 { option::STRUCTURED_REPLY } else { option::EXTENDED_HEADERS }, &[]);
        answer(option::SET_META_CONTEXT, &encode_meta_request("", &["base:allocation"]));
    }
    if kind > 0 {
        answer(option::GO, &[0; 6]);
    }
    (out, wishes)
}

async fn ask(client: Client) {
    let mut buf = [0xee; 512];
    let (read, status, written, zeroed, flushed, owned) = tokio::join!(
        client.read(0, &mut buf),
        client.block_status(Extent::new(0, client.size_bytes().min(SIZE_BYTES))),
        client.write(0, &[1; 16]),
        client.write_zeroes(Extent::new(0, 512), true),
        client.flush(),
        client.read_into(512, vec![0; 1024]),
    );
    if let Ok(regions) = status {
        // Whatever was answered, the regions follow each other and stay inside.
        assert!(regions.windows(2).all(|pair| pair[0].extent.end() == pair[1].extent.offset));
        assert!(regions.last().is_none_or(|last| last.extent.end() <= client.size_bytes()));
    }
    if let Ok(owned) = owned {
        assert_eq!(owned.len(), 1024);
    }
    let _ = (read, written, zeroed, flushed);
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let (mut bytes, wishes) = opening(kind % 4);
    bytes.extend_from_slice(rest);
    RUNTIME.block_on(async {
        let stream = tokio::io::join(Cursor::new(bytes), tokio::io::sink());
        let options = ClientOptions { wishes, ..ClientOptions::default() };
        if let Ok(client) = Client::over(stream, "", &options).await {
            ask(client).await;
        }
    });
});
