//! How many connections copy at a time: disks wait their turn, a VM with many disks does not keep the others waiting.
//!
//! The queue is pure; around it is what tasks wait on.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// A disk in the queue or at work.
type Ticket = u64;

/// Whose turn it is: a disk of each VM after the other.
#[derive(Debug)]
struct Queue {
    free: u32,
    most: u32,
    /// The VMs with disks that wait, the next one first.
    ring: VecDeque<(String, VecDeque<(Ticket, u32)>)>,
    at_work: HashMap<Ticket, u32>,
}

impl Queue {
    fn new(most: u32) -> Self {
        Self { free: most, most, ring: VecDeque::new(), at_work: HashMap::new() }
    }

    /// A disk of a VM wants so many connections; one that wants more than there are gets all.
    fn ask(&mut self, vm: &str, ticket: Ticket, lanes: u32) {
        let wanted = (ticket, lanes.clamp(1, self.most));
        match self.ring.iter_mut().find(|(other, _)| other == vm) {
            Some((_, disks)) => disks.push_back(wanted),
            None => self.ring.push_back((vm.to_owned(), VecDeque::from([wanted]))),
        }
    }

    /// A disk is done, or does not want to wait any more.
    fn leave(&mut self, ticket: Ticket) {
        if let Some(lanes) = self.at_work.remove(&ticket) {
            self.free += lanes;
        }
        for (_, disks) in &mut self.ring {
            disks.retain(|(waiting, _)| *waiting != ticket);
        }
        self.ring.retain(|(_, disks)| !disks.is_empty());
    }

    /// The next disk that may begin. Whoever is next is waited for, even if a smaller one behind it would fit.
    fn next(&mut self) -> Option<Ticket> {
        let &(ticket, lanes) = self.ring.front()?.1.front()?;
        self.free = self.free.checked_sub(lanes)?;
        let (vm, mut disks) = self.ring.pop_front()?;
        disks.pop_front();
        if !disks.is_empty() {
            self.ring.push_back((vm, disks));
        }
        self.at_work.insert(ticket, lanes);
        Some(ticket)
    }
}

/// The connections an agent copies with at a time.
#[derive(Debug, Clone)]
pub(crate) struct Lanes {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
    next_ticket: Ticket,
}

impl State {
    fn go_on(&mut self) {
        while let Some(ticket) = self.queue.next() {
            if let Some(waiting) = self.waiting.remove(&ticket) {
                // Whoever does not wait any more leaves by itself.
                let _ = waiting.send(());
            }
        }
    }
}

/// A disk's turn; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    state: Arc<Mutex<State>>,
    ticket: Ticket,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        state.queue.leave(self.ticket);
        state.waiting.remove(&self.ticket);
        state.go_on();
    }
}

impl Lanes {
    /// So many at a time.
    pub(crate) fn new(most: u32) -> Self {
        let state = State { queue: Queue::new(most.max(1)), waiting: HashMap::new(), next_ticket: 0 };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Waits until a disk of this VM may use so many connections.
    pub(crate) async fn turn(&self, vm: &str, lanes: u32) -> Turn {
        let (turn, may_begin) = {
            let mut state = self.state.lock();
            let (waiting, may_begin) = oneshot::channel();
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.queue.ask(vm, ticket, lanes);
            state.waiting.insert(ticket, waiting);
            state.go_on();
            (Turn { state: Arc::clone(&self.state), ticket }, may_begin)
        };
        // The sender is kept until the turn has come.
        let _ = may_begin.await;
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order in which disks get their turn when each leaves before the next.
    fn order(queue: &mut Queue) -> Vec<Ticket> {
        let mut order = Vec::new();
        while let Some(ticket) = queue.next() {
            order.push(ticket);
            queue.leave(ticket);
        }
        order
    }

    #[test]
    fn a_vm_with_many_disks_does_not_keep_the_others_waiting() {
        let mut queue = Queue::new(2);
        for ticket in 0..4 {
            queue.ask("big", ticket, 2);
        }
        queue.ask("small", 10, 2);
        queue.ask("other", 20, 1);
        assert_eq!(order(&mut queue), [0, 10, 20, 1, 2, 3]);
    }

    #[test]
    fn never_more_are_at_work_than_allowed_and_nobody_is_overtaken() {
        let mut queue = Queue::new(4);
        queue.ask("a", 1, 2);
        queue.ask("b", 2, 1);
        queue.ask("c", 3, 2);
        queue.ask("d", 4, 1);
        assert_eq!([queue.next(), queue.next(), queue.next()], [Some(1), Some(2), None]);
        queue.leave(2);
        assert_eq!([queue.next(), queue.next()], [Some(3), None]);
        // One that is not interested any more takes no turn, and one that wants more than there are gets all.
        queue.leave(4);
        queue.ask("e", 5, 100);
        queue.leave(1);
        assert_eq!(queue.next(), None);
        queue.leave(3);
        assert_eq!(queue.next(), Some(5));
        assert_eq!(queue.free, 0);
        queue.leave(5);
        assert_eq!(queue.free, 4);
    }

    #[tokio::test]
    async fn a_turn_that_ends_or_is_not_waited_for_makes_room() {
        let lanes = Lanes::new(2);
        let first = lanes.turn("a", 2).await;
        {
            let mut given_up = std::pin::pin!(lanes.turn("b", 2));
            assert!(futures::poll!(&mut given_up).is_pending());
        }
        let mut next = std::pin::pin!(lanes.turn("c", 1));
        assert!(futures::poll!(&mut next).is_pending());
        drop(first);
        let _next = next.await;
        let _beside = lanes.turn("d", 1).await;
    }
}
