//! Two ends over TLS: everything arrives as it was sent, in whatever pieces it comes, and what is no frame ends the
//! connection.

use proptest::prelude::*;

use super::*;
use crate::channel::tests::pair;
use crate::frames::FrameError;

/// Bytes of each kind: zeroes, text, and what no compressor finds anything in.
fn content(length: usize) -> Vec<u8> {
    let mut state = 0x0123_4567_89ab_cdef_u64;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[5]
    };
    // In a long one, some blocks are of one kind alone.
    let stripe = if length > 1 << 20 { 600_000 } else { 20_000 };
    let kind = |at: usize| (at / stripe) % 3;
    let byte = |at: usize| match kind(at) {
        0 => 0,
        1 => b"all disks are equal, some are more equal. "[at % 42],
        _ => noise(),
    };
    (0..length).map(byte).collect()
}

fn ends(mode: CompressionMode) -> (Framed, Framed, Arc<WireMeter>) {
    let (mut ours, theirs) = pair();
    let meter = Arc::<WireMeter>::default();
    ours.send_within(Arc::clone(&meter), None);
    let ours = Framed::new(ours, Side::Asking, mode, Arc::clone(&meter));
    (ours, Framed::new(theirs, Side::Answering, CompressionMode::Auto, Arc::default()), meter)
}

/// Everything until the other end says goodbye.
fn rest(channel: &mut impl Channel, room: usize) -> io::Result<Vec<u8>> {
    let (mut intake, mut all) = (Intake::new(room), Vec::new());
    while channel.receive(&mut intake)? > 0 {
        let arrived = intake.filled().len();
        all.extend_from_slice(intake.take(arrived));
    }
    Ok(all)
}

#[test]
fn everything_arrives_in_every_mode_and_only_what_is_shorter_is_compressed() {
    for mode in [CompressionMode::On, CompressionMode::Auto, CompressionMode::Off] {
        let (mut ours, mut theirs, meter) = ends(mode);
        let sent = content(3_000_017);
        let expected = sent.clone();
        let sending = std::thread::spawn(move || {
            for (round, piece) in sent.chunks(700_001).enumerate() {
                let (head, body) = piece.split_at(28 + round);
                ours.send(&[head, &[], body]).unwrap();
            }
            ours.finish();
        });
        assert!(rest(&mut theirs, 1 << 19).unwrap() == expected, "{mode}");
        sending.join().unwrap();
        let view = meter.view();
        if mode == CompressionMode::Off {
            assert_eq!(view.bytes_unpacked, 0);
            assert!(view.bytes_on_wire > 3_000_017);
        } else {
            assert!(view.bytes_unpacked > 1_500_000 && view.bytes_raw > 250_000, "{mode} {view:?}");
            assert!(view.bytes_on_wire < 2_000_000, "{mode} {view:?}");
        }
    }
}

#[test]
fn a_conversation_goes_to_and_fro_without_anything_being_held_back() {
    let (mut ours, mut theirs, _) = ends(CompressionMode::On);
    let answering = std::thread::spawn(move || {
        let mut intake = Intake::new(1 << 18);
        while theirs.receive(&mut intake).unwrap() > 0 {
            let arrived = intake.filled().len();
            theirs.send(&[intake.take(arrived)]).unwrap();
        }
        theirs.finish();
    });
    for length in [1, 28, 4095, 4096, 16_384, 16_385, 262_144, 262_145] {
        let sent = content(length);
        ours.send(&[&sent]).unwrap();
        let (mut intake, mut back) = (Intake::new(0), Vec::new());
        while back.len() < length {
            assert!(ours.receive(&mut intake).unwrap() > 0);
            let arrived = intake.filled().len();
            back.extend_from_slice(intake.take(arrived));
        }
        assert!(back == sent, "{length}");
    }
    ours.finish();
    answering.join().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The frames of a peer that cuts its records where it likes.
    #[test]
    fn frames_need_not_begin_with_records(
        cuts in proptest::collection::vec(1usize..40_000, 1..20),
        lengths in proptest::collection::vec(1usize..70_000, 1..6),
        room in 0usize..200_000,
    ) {
        let (mut ours, theirs) = pair();
        let mut theirs = Framed::new(theirs, Side::Answering, CompressionMode::Auto, Arc::default());
        let (mut wire, mut expected) = (Vec::new(), Vec::new());
        let mut packer = Packer::new(1).unwrap();
        for (index, length) in lengths.iter().enumerate() {
            let plain = content(*length);
            match packer.pack(&plain).filter(|_| index % 2 == 0) {
                Some(packed) => {
                    FrameHead::Packed { length: 4 + packed.len() }.encode(&mut wire);
                    wire.extend_from_slice(&u32::try_from(*length).unwrap().to_be_bytes());
                    wire.extend_from_slice(packed);
                }
                None => {
                    FrameHead::Raw { length: *length }.encode(&mut wire);
                    wire.extend_from_slice(&plain);
                }
            }
            expected.extend_from_slice(&plain);
        }
        let sending = std::thread::spawn(move || {
            let mut left = wire.as_slice();
            for cut in cuts.iter().cycle() {
                let (piece, after) = left.split_at((*cut).min(left.len()));
                ours.send(&[piece]).unwrap();
                left = after;
                if left.is_empty() {
                    break;
                }
            }
            ours.finish();
        });
        prop_assert!(rest(&mut theirs, room).unwrap() == expected);
        sending.join().unwrap();
    }
}

#[test]
fn what_is_no_frame_ends_the_connection_with_its_reason() {
    let too_long = 0x4_0001_u32.to_be_bytes();
    let damaged = [0x80, 0, 0, 8, 0, 0, 0x10, 0, 1, 2, 3, 4];
    let not_shorter = [0x80, 0, 0, 8, 0, 0, 0, 4, 1, 2, 3, 4];
    let cases: [(&[u8], FrameError); 4] = [
        (&[0; 4], FrameError::Empty),
        (&too_long, FrameError::TooLong { length: 0x4_0001 }),
        (&damaged, FrameError::Damaged),
        (&not_shorter, FrameError::NotShorter),
    ];
    for (bytes, expected) in cases {
        let (mut ours, theirs) = pair();
        let mut theirs = Framed::new(theirs, Side::Answering, CompressionMode::Auto, Arc::default());
        ours.send(&[bytes]).unwrap();
        let error = rest(&mut theirs, 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let reason = error.get_ref().and_then(|reason| reason.downcast_ref::<FrameError>());
        assert_eq!(reason, Some(&expected));
    }
}

#[test]
fn a_stream_ends_between_frames_and_nowhere_else() {
    let raw = [0, 0, 0x80, 0, 1, 2, 3];
    for cut in 0..=raw.len() {
        let (mut ours, theirs) = pair();
        let mut theirs = Framed::new(theirs, Side::Answering, CompressionMode::Auto, Arc::default());
        if cut > 0 {
            ours.send(&[&raw[..cut]]).unwrap();
        }
        ours.finish();
        let ended = rest(&mut theirs, 0).map_err(|error| error.kind());
        let expected = if cut == 0 { Ok(Vec::new()) } else { Err(io::ErrorKind::UnexpectedEof) };
        assert_eq!(ended, expected, "after {cut} bytes");
    }
}
