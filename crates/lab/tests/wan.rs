//! A real agent on a wide-area link (100 Mbit/s, 50 ms there and back): what compression saves, and that limits hold.
//!
//! Judged are bytes, and bytes over a time that is long; how long a copy took is only told.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "helpers of tests are tests too")]
#![allow(clippy::print_stderr, reason = "how long a copy took is told, never judged")]
#![allow(dead_code, reason = "site and hub are shared with agent_runs, which needs more of them")]

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use api::vma::{RunLimits, RunPhase, RunView, StartRun};
use lab::toxic::ToxicLink;
use model::{BandwidthLimit, CompressionMode};
use vma::config::WanConfig;

use hub::Hub;
use site::{SIZES, Site, keys, soon, web_server};

#[path = "agent_runs/hub.rs"]
mod hub;
#[path = "agent_runs/ledger.rs"]
mod ledger;
#[path = "agent_runs/site.rs"]
mod site;

/// What the link carries in each direction: 100 Mbit/s.
const LINK_BYTES_PER_SECOND: u64 = 12_500_000;
/// How long it takes to the other side.
const LINK_DELAY: Duration = Duration::from_millis(25);
/// The time a limit is looked at over.
const LIMITED_TIME: Duration = Duration::from_secs(11);
/// How often it is looked.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A site whose agent reaches the hub over the link.
async fn site_over_a_wan(wan: WanConfig) -> (Site, ToxicLink) {
    let hub = Hub::start().await;
    let link = ToxicLink::to(hub.address().parse().unwrap()).await.unwrap();
    link.delay(LINK_DELAY);
    link.throttle(Some(LINK_BYTES_PER_SECOND));
    let address = link.address().to_string();
    (Site::beside(hub, &address, web_server(), wan).await, link)
}

/// Fills every disk: with lines of a log, or with what no compressor finds anything in.
fn fill(site: &Site, is_text: bool) {
    let mut state = 0x0123_4567_89ab_cdef_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for (key, size) in keys().zip(SIZES) {
        let mut bytes = Vec::new();
        while bytes.len() < usize::try_from(size).unwrap() {
            if is_text {
                let (user, took) = (next() % 997, next() % 10_007);
                bytes.extend_from_slice(format!("GET /accounts/{user}/orders HTTP/1.1 200 {took} ms\n").as_bytes());
            } else {
                bytes.extend_from_slice(&next().to_le_bytes());
            }
        }
        bytes.truncate(usize::try_from(size).unwrap());
        site.guest().write(key, 0, &bytes).unwrap();
    }
}

fn on_wire(run: &RunView) -> u64 {
    run.disks.iter().map(|disk| disk.bytes_on_wire).sum()
}

fn mib_per_s(limit: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(limit)
}

/// What a copy of text sends over the link.
async fn sent_with(compression: CompressionMode) -> u64 {
    let (site, link) = site_over_a_wan(WanConfig::default()).await;
    fill(&site, true);
    let (request, devices) = site.first_run("job-1").await;
    let request = StartRun { compression: Some(compression), ..request };
    let before = link.bytes_to_hub();
    let begun = Instant::now();
    let run = site.start_until(&request, RunPhase::Copied).await;
    let (took, sent) = (begun.elapsed(), link.bytes_to_hub() - before);
    site.assert_equal(&run, &devices);
    let counted = on_wire(&run);
    assert!(counted <= sent && counted + 500_000 > sent, "the agent counted {counted}, the link {sent}");
    eprintln!("compression {compression}: {sent} bytes in {took:?}");
    for disk in &run.disks {
        let (share, ratio) = (disk.compressed_share_percent, disk.compression_ratio_percent);
        match compression {
            CompressionMode::Off => assert_eq!((share, ratio), (None, None)),
            CompressionMode::On => assert!(share > Some(95) && ratio < Some(40), "{disk:?}"),
            CompressionMode::Auto => assert!(share > Some(50) && ratio < Some(40), "{disk:?}"),
        }
    }
    site.stop().await;
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn text_takes_less_than_half_of_the_link_when_it_is_compressed() {
    let off = sent_with(CompressionMode::Off).await;
    assert!(off > SIZES.iter().sum());
    for compression in [CompressionMode::On, CompressionMode::Auto] {
        let sent = sent_with(compression).await;
        assert!(sent * 2 <= off, "{compression}: {sent} bytes, without {off}");
    }
}

/// Bytes per second on the wire, over a long time in the middle of a run.
async fn rate_of(site: &Site, job_id: &str) -> u64 {
    let look = async || {
        let run = site.client.run(job_id).await.unwrap();
        assert_eq!(run.error, None);
        (on_wire(&run), Instant::now())
    };
    let measured = async {
        let (mut first, mut begun) = look().await;
        // The beginning is handshakes.
        while first < 1 << 20 {
            tokio::time::sleep(LOOK_INTERVAL).await;
            (first, begun) = look().await;
        }
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let (sent, now) = look().await;
            if now - begun >= LIMITED_TIME {
                return u128::from(sent - first) * 1_000_000 / (now - begun).as_micros();
            }
        }
    };
    u64::try_from(soon("the measurement", measured).await).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_holds_within_five_percent() {
    let (site, _link) = site_over_a_wan(WanConfig::default()).await;
    fill(&site, false);
    let (request, devices) = site.first_run("job-1").await;
    let limits = RunLimits { limit_mib_per_s: mib_per_s(2), ..RunLimits::default() };
    site.client.start_run(&StartRun { limits, ..request }).await.unwrap();
    let (rate, limit) = (rate_of(&site, "job-1").await, 2 << 20);
    assert!(rate.abs_diff(limit) * 20 <= limit, "{rate} bytes per second, {limit} are allowed");
    site.client.limit_run("job-1", &RunLimits::default()).await.unwrap();
    let run = site.until("job-1", RunPhase::Copied).await;
    site.assert_equal(&run, &devices);
    site.stop().await;
}

/// At 1 MiB per second the copy would take half a minute; that the hub lifts its limit is heard at once. One disk is
/// copied after the other, because there are connections for one.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_the_hub_lifts_is_lifted_for_a_run_under_way() {
    let wan = WanConfig { max_connections: 2, ..WanConfig::default() };
    let (site, _link) = site_over_a_wan(wan).await;
    fill(&site, false);
    let (request, devices) = site.first_run("job-1").await;
    let slow = BandwidthLimit::new(mib_per_s(1).unwrap(), None, Vec::new()).unwrap();
    let limits = RunLimits { agent_limits: vec![slow], ..RunLimits::default() };
    site.client.start_run(&StartRun { limits, ..request }).await.unwrap();
    let begun = async {
        loop {
            let run = site.client.run("job-1").await.unwrap();
            if run.disks.iter().any(|disk| disk.bytes_done > 0) {
                return run;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    let run = soon("the first bytes", begun).await;
    assert!(run.disks.iter().any(|disk| disk.bytes_done == 0), "a disk waits for its turn: {:?}", run.disks);
    site.client.limit_run("job-1", &RunLimits::default()).await.unwrap();
    let copied = tokio::time::timeout(Duration::from_secs(20), site.until("job-1", RunPhase::Copied)).await;
    site.assert_equal(&copied.expect("the limit is still in force"), &devices);
    site.stop().await;
}
