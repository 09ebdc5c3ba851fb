//! Progress that is true: API, events, command line and metrics show the same numbers, at once, and never fall.

use std::sync::Arc;
use std::time::Duration;

use api::oma::events::HubEvent;
use api::oma::progress::{JobProgress, Phase};
use api::sse::Events;
use api::{Client, HttpTransport};
use lab::world::Roles;
use model::Secret;
use model::status::JobStatus;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::timeout;

use super::stage::{Stage, sum};

/// Reads of the datastore that are let through before the copy stands still.
const READS: u64 = 40;
/// What is seen is told so soon.
const AT_MOST: Duration = Duration::from_secs(1);
/// However slow the machine is, something is heard within.
const DEADLINE: Duration = Duration::from_secs(90);

/// Reads `name{labels} value` lines of a metrics text; the sum of those whose labels hold all of `wanted`.
fn metric(text: &str, name: &str, wanted: &[&str]) -> Option<u64> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
    let lines = lines.filter(|(labels, _)| labels.is_empty() || labels.starts_with('{'));
    let values = lines.filter(|(labels, _)| wanted.iter().all(|label| labels.contains(label)));
    let values: Vec<u64> = values.map(|(_, value)| value.parse().unwrap()).collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

async fn text_of(url: &str) -> String {
    reqwest::get(url).await.unwrap().error_for_status().unwrap().text().await.unwrap()
}

impl Stage {
    async fn events_of(&self, job_id: &str) -> Events {
        let token = std::fs::read_to_string(self.world.dir().join("hub/operator.token")).unwrap();
        let token = Secret::new(token.trim());
        let client = Client::new(Arc::new(HttpTransport::tcp(&self.world.hub_url(), Some(token), None).unwrap()));
        client.events(&format!("/api/v1/jobs/{job_id}/events"), None).await.unwrap()
    }

    async fn hub_metrics(&self) -> String {
        text_of(&format!("{}/metrics", self.world.hub_url())).await
    }

    async fn agent_metrics(&self) -> String {
        let config = std::fs::read_to_string(self.world.agent_config()).unwrap();
        let listen = config.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap();
        text_of(&format!("http://{}/metrics", listen.trim_matches('"'))).await
    }
}

/// The next event of the kinds this is about; with a moment at which it came.
async fn next(events: &mut Events) -> (HubEvent, OffsetDateTime) {
    loop {
        let heard = timeout(DEADLINE, events.next()).await.unwrap().unwrap().expect("the stream goes on");
        let Some(event) = heard else { continue };
        return (serde_json::from_str(&event.data).unwrap(), OffsetDateTime::now_utc());
    }
}

async fn next_progress(events: &mut Events) -> (JobProgress, OffsetDateTime) {
    loop {
        if let (HubEvent::Progress(progress), came_at) = next(events).await {
            return (*progress, came_at);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn api_events_command_line_and_metrics_say_the_same_at_once_and_nothing_falls() {
    let stage = Stage::ready(Roles::Together).await;
    let (job_id, _) = stage.stuck_in_the_middle(READS).await;
    // What was under way when reads were held has arrived when the agent and the hub agree.
    let agree = |progress: &Value| {
        let copied: u64 = progress["work"]["disks"]
            .as_array()
            .map_or(0, |disks| disks.iter().map(|disk| disk["copy_done"].as_u64().unwrap()).sum());
        copied > 0 && copied == sum(progress, "bytes_done") && progress["work"]["speed_bps"] == 0
    };
    let shown = stage.until(&job_id, "the held copy has settled", agree).await["work"].clone();
    assert_eq!(shown["phase"], "copying");
    assert!(shown["eta"].is_null(), "nobody knows while nothing moves: {shown:#}");
    let (done, total) = (shown["work_done"].as_u64().unwrap(), shown["work_total"].as_u64().unwrap());
    assert!(total < 2 * (384 << 20), "work is what is allocated, not the size of the disks: {shown:#}");

    let job = format!("job=\"{job_id}\"");
    let of_hub = stage.hub_metrics().await;
    let hub = |name: &str, labels: &[&str]| metric(&of_hub, name, &[&[job.as_str(), "vm=\"web01\""], labels].concat());
    assert_eq!(hub("migratekit_oma_replication_work_done_bytes", &[]), Some(done), "{of_hub}");
    assert_eq!(hub("migratekit_oma_replication_work_bytes", &[]), Some(total));
    assert_eq!(hub("migratekit_oma_replication_sent_bytes", &[]), shown["bytes_sent"].as_u64());
    assert_eq!(hub("migratekit_oma_disk_work_done_bytes", &["kind=\"copy\""]), Some(done));
    assert_eq!(hub("migratekit_oma_replication_phase", &["phase=\"copying\""]), Some(1));
    assert_eq!(hub("migratekit_oma_replication_time_share_percent", &[]), Some(100));
    let of_agent = stage.agent_metrics().await;
    assert_eq!(metric(&of_agent, "migratekit_agent_disk_work_done_bytes", &[&job]), Some(done), "{of_agent}");

    let mut events = stage.events_of(&job_id).await;
    let (first, _) = next(&mut events).await;
    assert!(matches!(&first, HubEvent::Job(view) if view.status == JobStatus::Running), "{first:?}");
    let (held, _) = next_progress(&mut events).await;
    assert_eq!((held.work_done, held.work_total, held.phase), (done, total, Phase::Copying));
    let operator = stage.world.operator();
    let watched_id = job_id.clone();
    let watching = tokio::spawn(async move { operator.run(&["job", "watch", &watched_id]).await.unwrap() });

    stage.world.release_reads().await.unwrap();
    let (mut last, mut phases) = (held, vec![Phase::Copying]);
    loop {
        let (event, came_at) = next(&mut events).await;
        match event {
            HubEvent::Progress(progress) => {
                assert!(came_at - progress.at < AT_MOST, "seen at {}, told at {came_at}", progress.at);
                assert!(
                    progress.percent >= last.percent && progress.work_done >= last.work_done,
                    "{last:?} {progress:?}"
                );
                if phases.last() != Some(&progress.phase) {
                    phases.push(progress.phase);
                }
                last = *progress;
            }
            HubEvent::Job(view) if view.status == JobStatus::Completed => break,
            _ => {}
        }
    }
    assert!(phases.is_sorted_by_key(|phase| Phase::ALL.iter().position(|one| one == phase)), "{phases:?}");
    assert!(phases.contains(&Phase::Verifying) && phases.contains(&Phase::Releasing), "{phases:?}");
    assert_eq!(last.work_done, last.work_total, "what is verified is work, too: {last:?}");

    let watched = watching.await.unwrap();
    assert_eq!(watched.code, 0, "{}", watched.stderr);
    let lines: Vec<HubEvent> = watched.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let is_held = |event: &HubEvent| matches!(event, HubEvent::Progress(seen) if seen.work_done >= done);
    assert!(lines.iter().any(is_held), "{}", watched.stdout);
    assert!(matches!(lines.last(), Some(HubEvent::Job(view)) if view.status == JobStatus::Completed));

    let over = stage.completed(&job_id).await;
    let shares = over["work"]["shares"].as_object().unwrap();
    assert_eq!(shares.values().map(|share| share.as_u64().unwrap()).sum::<u64>(), 100);
    assert!(over["work"]["bound_by"].is_string(), "{over:#}");
    let after = stage.hub_metrics().await;
    assert_eq!(metric(&after, "migratekit_oma_replications_ended_total", &["outcome=\"completed\""]), Some(1));
    assert_eq!(metric(&after, "migratekit_oma_verification_mismatched_leaves_total", &[]), Some(0));
    assert_eq!(metric(&after, "migratekit_oma_replication_work_bytes", &[&job]), None, "what has ended is not shown");
}
