//! Two ends with made-up keys: keys replaced on the way, bytes changed on the way, ends without a goodbye.

use std::io::Write as _;
use std::net::TcpListener;

use rustls::crypto::cipher::{AeadKey, Iv};

use super::*;

/// A key for each direction and generation.
fn secrets(direction: u8, generation: u8) -> (u64, ConnectionTrafficSecrets) {
    let key = AeadKey::from([direction * 100 + generation; 32]);
    (0, ConnectionTrafficSecrets::Aes256Gcm { key, iv: Iv::new([direction; 12]) })
}

/// The schedule of one end: its own direction and the other's, and how often each was replaced.
struct Keys {
    sending: (u8, u8),
    receiving: (u8, u8),
}

impl KeySchedule for Keys {
    fn next_sending(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error> {
        self.sending.1 += 1;
        Ok(secrets(self.sending.0, self.sending.1))
    }

    fn next_receiving(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error> {
        self.receiving.1 += 1;
        Ok(secrets(self.receiving.0, self.receiving.1))
    }
}

fn channel(tcp: TcpStream, sending: u8, receiving: u8) -> TlsChannel {
    let extracted = ExtractedSecrets { tx: secrets(sending, 0), rx: secrets(receiving, 0) };
    let keys = Keys { sending: (sending, 0), receiving: (receiving, 0) };
    TlsChannel::new(tcp, &extracted, Box::new(keys), &[]).unwrap()
}

fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (ours, listener.accept().unwrap().0)
}

/// Two ends that understand each other.
pub(crate) fn pair() -> (TlsChannel, TlsChannel) {
    let (ours, theirs) = sockets();
    (channel(ours, 1, 2), channel(theirs, 2, 1))
}

/// Everything until the other end says goodbye.
fn rest(channel: &mut TlsChannel) -> io::Result<Vec<u8>> {
    let (mut intake, mut all) = (Intake::new(1 << 17), Vec::new());
    while channel.receive(&mut intake)? > 0 {
        let arrived = intake.filled().len();
        all.extend_from_slice(intake.take(arrived));
    }
    Ok(all)
}

#[test]
fn keys_are_replaced_after_their_records_and_nothing_is_lost() {
    let (mut ours, mut theirs) = pair();
    ours.set_records_per_key(3);
    let message = |round: u8| vec![round; 40_000];
    let sending = std::thread::spawn(move || {
        for round in 0..50 {
            ours.send(&[&message(round)]).unwrap();
        }
        ours.finish();
        ours
    });
    let received = rest(&mut theirs).unwrap();
    assert!(received == (0..50).flat_map(message).collect::<Vec<u8>>());
    // 3 records a message: a new key before every one but the first.
    assert_eq!(sending.join().unwrap().sealing.sequence(), 3 + 1, "three records and the goodbye under the last key");
}

#[test]
fn a_key_is_replaced_when_the_other_side_asks_for_it() {
    let (mut ours, mut theirs) = pair();
    ours.seal(ContentType::Handshake, &[KEY_UPDATE, 0, 0, 1, 1]).unwrap();
    let (sequence, next) = ours.keys.next_sending().unwrap();
    ours.sealing = RecordKey::new(sequence, &next).unwrap();
    ours.send(&[b"under the new key"]).unwrap();
    let mut intake = Intake::new(0);
    assert_eq!(theirs.receive(&mut intake).unwrap(), 17);
    theirs.send(&[b"and so am I"]).unwrap();
    let mut intake = Intake::new(0);
    assert_eq!(ours.receive(&mut intake).unwrap(), 11);
    assert_eq!(intake.filled(), b"and so am I");
}

#[test]
fn what_was_changed_on_the_way_is_never_handed_out() {
    let (ours, mut raw) = sockets();
    let mut ours = channel(ours, 1, 2);
    let mut record = vec![0; 5 + OVERHEAD_BYTES];
    RecordKey::new(0, &secrets(2, 0).1).unwrap().seal(ContentType::Data, b"bytes", &mut record).unwrap();
    record[7] ^= 1;
    raw.write_all(&record).unwrap();
    let mut intake = Intake::new(0);
    let error = ours.receive(&mut intake).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("changed on its way"), "{error}");
    assert!(intake.filled().is_empty() && !intake.spare()[..5].starts_with(b"b"));
}

#[test]
fn what_is_no_record_ends_the_connection() {
    let cases: [&[u8]; 4] =
        [b"GET / HTTP/1.1\r\n\r\n", &[23, 3, 3, 0xff, 0xff], &[22, 3, 3, 0, 4, 1, 0, 0, 0], &[23, 3, 3, 0, 0]];
    for bytes in cases {
        let (ours, mut raw) = sockets();
        let mut ours = channel(ours, 1, 2);
        raw.write_all(bytes).unwrap();
        drop(raw);
        assert_eq!(rest(&mut ours).unwrap_err().kind(), io::ErrorKind::InvalidData, "{bytes:?}");
    }
}

#[test]
fn an_end_without_a_goodbye_is_an_error_and_a_goodbye_is_none() {
    let (ours, mut theirs) = pair();
    drop(ours);
    assert_eq!(rest(&mut theirs).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let (mut ours, mut theirs) = pair();
    ours.send(&[b"last ", b"words"]).unwrap();
    ours.finish();
    assert_eq!(rest(&mut theirs).unwrap(), b"last words");
}

#[test]
fn records_of_nothing_are_not_taken_for_ever() {
    let (mut ours, mut theirs) = pair();
    for _ in 0..=MAX_EMPTY_RECORDS {
        ours.seal(ContentType::Data, &[]).unwrap();
    }
    ours.send_sealed().unwrap();
    assert_eq!(rest(&mut theirs).unwrap_err().kind(), io::ErrorKind::InvalidData);
}
