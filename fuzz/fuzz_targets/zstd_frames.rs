//! Frames of `nbd+zstd` as anybody may send them: each is taken or refused, and none becomes longer than is allowed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tunnel::frames::{FrameHead, HEAD_BYTES, MAX_FRAME_BYTES, Packer, Unpacker};

fuzz_target!(|data: &[u8]| {
    let (mut unpacker, mut plain) = (Unpacker::new().expect("there is memory"), Vec::new());
    let mut left = data;
    while let Some((head, after)) = left.split_first_chunk::<HEAD_BYTES>() {
        let Ok(head) = FrameHead::decode(*head) else { break };
        let (FrameHead::Raw { length } | FrameHead::Packed { length }) = head;
        assert!((1..=MAX_FRAME_BYTES).contains(&length));
        let (body, after) = after.split_at(length.min(after.len()));
        if matches!(head, FrameHead::Packed { .. }) {
            match unpacker.unpack(body, &mut plain) {
                Ok(()) => assert!(plain.len() <= MAX_FRAME_BYTES && plain.len() > body.len() - HEAD_BYTES),
                Err(_) => assert!(plain.len() <= MAX_FRAME_BYTES),
            }
        }
        left = after;
    }
    // What we compress is taken, whatever it is.
    let mut packer = Packer::new(1).expect("there is memory");
    let block = &data[..data.len().min(MAX_FRAME_BYTES)];
    if let Some(packed) = packer.pack(block) {
        let length = u32::try_from(block.len()).expect("a block is short");
        let body = [&length.to_be_bytes(), packed].concat();
        unpacker.unpack(&body, &mut plain).expect("it is ours");
        assert!(plain == block);
    }
});
