//! Whose turn it is to send: disks that wait are served one after the other, each within its job's limit and all within
//! the agent's. Pure: the caller brings the time.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::bucket::Bucket;

/// How far ahead small things may go without waiting for their turn, in bytes: more than requests without payload ever are,
/// and little enough for a limit to hold when everything that is sent has been compressed to small things.
const MOST_AHEAD_BYTES: u64 = 2 << 20;

/// Names a job among those that send.
pub(super) type JobKey = u64;
/// Names a disk among those that send.
pub(super) type DiskKey = u64;
/// Names a connection that waits.
pub(super) type Ticket = u64;

/// Everybody who waits, and what everybody may send.
#[derive(Debug)]
pub(super) struct Turns {
    all: Bucket,
    jobs: HashMap<JobKey, Bucket>,
    /// The disks with somebody who waits, the next one first.
    ring: VecDeque<Queue>,
}

#[derive(Debug)]
struct Queue {
    disk: DiskKey,
    job: JobKey,
    waiting: VecDeque<(Ticket, u64)>,
}

/// Who may go now, and when to ask again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) tickets: Vec<Ticket>,
    /// From now; none when nobody waits.
    pub(super) next: Option<Duration>,
}

impl Turns {
    pub(super) fn new(now: Duration) -> Self {
        Self { all: Bucket::new(None, now), jobs: HashMap::new(), ring: VecDeque::new() }
    }

    /// Whether anybody may have to wait.
    pub(super) fn is_limited(&self) -> bool {
        self.all.is_limited() || self.jobs.values().any(Bucket::is_limited)
    }

    pub(super) fn set_limit(&mut self, bytes_per_s: Option<u64>, now: Duration) {
        self.all.set_rate(bytes_per_s, now);
    }

    pub(super) fn set_job_limit(&mut self, job: JobKey, bytes_per_s: Option<u64>, now: Duration) {
        self.jobs.entry(job).or_insert_with(|| Bucket::new(None, now)).set_rate(bytes_per_s, now);
    }

    /// A job has ended.
    pub(super) fn forget_job(&mut self, job: JobKey) {
        self.jobs.remove(&job);
    }

    /// A connection of a disk wants to send.
    pub(super) fn ask(&mut self, job: JobKey, disk: DiskKey, ticket: Ticket, bytes: u64) {
        match self.ring.iter_mut().find(|queue| queue.disk == disk) {
            Some(queue) => queue.waiting.push_back((ticket, bytes)),
            None => self.ring.push_back(Queue { disk, job, waiting: VecDeque::from([(ticket, bytes)]) }),
        }
    }

    /// A connection no longer wants to.
    pub(super) fn withdraw(&mut self, ticket: Ticket) {
        for queue in &mut self.ring {
            queue.waiting.retain(|(waiting, _)| *waiting != ticket);
        }
        self.ring.retain(|queue| !queue.waiting.is_empty());
    }

    /// Something small may be sent at once, and the next one waits for it; `false` when so much has been sent ahead that it has
    /// to wait like everything else.
    pub(super) fn charge_if_small_debt(&mut self, job: JobKey, bytes: u64, now: Duration) -> bool {
        self.fill(now);
        let owes = |bucket: &Bucket| bucket.owes_more_than(MOST_AHEAD_BYTES);
        let may_go = !owes(&self.all) && !self.jobs.get(&job).is_some_and(owes);
        if may_go {
            self.take(job, bytes);
        }
        may_go
    }

    /// Lets through whoever may go, a request of each disk in turn.
    pub(super) fn grant(&mut self, now: Duration) -> Granted {
        self.fill(now);
        let mut granted = Granted::default();
        while self.all.is_ready() {
            let next = self.ring.iter().position(|queue| self.job_is_ready(queue.job));
            let Some(mut queue) = next.and_then(|place| self.ring.remove(place)) else { break };
            if let Some((ticket, bytes)) = queue.waiting.pop_front() {
                self.take(queue.job, bytes);
                granted.tickets.push(ticket);
            }
            if !queue.waiting.is_empty() {
                self.ring.push_back(queue);
            }
        }
        let soonest = self.ring.iter().map(|queue| self.jobs.get(&queue.job).map_or(Duration::ZERO, Bucket::ready_in));
        granted.next = soonest.min().map(|job| job.max(self.all.ready_in()));
        granted
    }

    fn job_is_ready(&self, job: JobKey) -> bool {
        self.jobs.get(&job).is_none_or(Bucket::is_ready)
    }

    fn fill(&mut self, now: Duration) {
        self.all.fill(now);
        self.jobs.values_mut().for_each(|bucket| bucket.fill(now));
    }

    fn take(&mut self, job: JobKey, bytes: u64) {
        self.all.take(bytes);
        if let Some(bucket) = self.jobs.get_mut(&job) {
            bucket.take(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;
    const SECOND: Duration = Duration::from_secs(1);

    /// Lanes that always want to send: (job, disk) each; answers with the bytes of each lane after `seconds`.
    fn run(turns: &mut Turns, lanes: &[(JobKey, DiskKey)], bytes: u64, seconds: u32) -> Vec<u64> {
        let mut sent = vec![0; lanes.len()];
        for (lane, (job, disk)) in lanes.iter().enumerate() {
            turns.ask(*job, *disk, lane as Ticket, bytes);
        }
        let mut now = Duration::ZERO;
        while now < seconds * SECOND {
            let granted = turns.grant(now);
            for ticket in granted.tickets {
                let (job, disk) = lanes[ticket as usize];
                sent[ticket as usize] += bytes;
                turns.ask(job, disk, ticket, bytes);
            }
            now += turns.grant(now).next.unwrap().max(Duration::from_nanos(1));
        }
        sent
    }

    #[test]
    fn disks_share_alike_however_many_connections_they_have() {
        let mut turns = Turns::new(Duration::ZERO);
        turns.set_limit(Some(10_000 * KIB), Duration::ZERO);
        // A disk with four connections, one with one, and one of another VM.
        let sent = run(&mut turns, &[(1, 1), (1, 1), (1, 1), (1, 1), (1, 2), (2, 3)], 256 * KIB, 30);
        let disks = [sent[..4].iter().sum::<u64>(), sent[4], sent[5]];
        let all: u64 = disks.iter().sum();
        assert!(all.abs_diff(30 * 10_000 * KIB) * 100 < all, "{all}");
        for disk in disks {
            assert!(disk.abs_diff(all / 3) <= 512 * KIB, "{disks:?}");
        }
    }

    #[test]
    fn a_job_keeps_its_own_limit_and_leaves_the_rest_to_the_others() {
        let mut turns = Turns::new(Duration::ZERO);
        turns.set_limit(Some(10_000 * KIB), Duration::ZERO);
        turns.set_job_limit(1, Some(1_000 * KIB), Duration::ZERO);
        let sent = run(&mut turns, &[(1, 1), (1, 2), (2, 3)], 64 * KIB, 30);
        let expected = 30 * 1_000 * KIB;
        assert!((sent[0] + sent[1]).abs_diff(expected) * 50 < expected, "{sent:?}");
        assert!(sent[0].abs_diff(sent[1]) <= 128 * KIB, "{sent:?}");
        assert!(sent[2].abs_diff(9 * expected) * 50 < 9 * expected, "{sent:?}");
    }

    #[test]
    fn without_limits_everybody_goes_at_once() {
        let mut turns = Turns::new(Duration::ZERO);
        assert!(!turns.is_limited());
        for ticket in 0..5 {
            turns.ask(1, ticket % 2, ticket, 1 << 30);
        }
        let granted = turns.grant(Duration::ZERO);
        assert_eq!((granted.tickets.len(), granted.next), (5, None));
    }

    #[test]
    fn what_is_small_waits_once_much_of_it_has_gone_ahead() {
        let mut turns = Turns::new(Duration::ZERO);
        turns.set_limit(Some(1000), Duration::ZERO);
        let sent = (0..10_000).take_while(|_| turns.charge_if_small_debt(1, 1000, Duration::ZERO)).count();
        assert_eq!(sent as u64, MOST_AHEAD_BYTES / 1000 + 1);
        assert!(turns.charge_if_small_debt(1, 1000, 10 * SECOND), "ten seconds later some of it is paid");
    }

    #[test]
    fn who_withdraws_takes_no_turn_and_who_is_small_is_charged_later() {
        let mut turns = Turns::new(Duration::ZERO);
        turns.set_limit(Some(1000), Duration::ZERO);
        assert!(turns.charge_if_small_debt(1, 2000, Duration::ZERO));
        turns.ask(1, 1, 1, 10);
        turns.ask(1, 2, 2, 10);
        turns.withdraw(1);
        let waits = turns.grant(Duration::ZERO);
        assert_eq!((waits.tickets.len(), waits.next), (0, Some(2 * SECOND)));
        assert_eq!(turns.grant(2 * SECOND).tickets, [2]);
        turns.set_job_limit(1, Some(1), 2 * SECOND);
        assert!(turns.is_limited());
        turns.set_limit(None, 2 * SECOND);
        turns.forget_job(1);
        assert!(!turns.is_limited());
    }
}
