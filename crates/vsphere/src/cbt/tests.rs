//! The paged loop against good, odd and hostile answers, without a server.

use proptest::prelude::*;

use super::*;
use crate::soap::parse;

const MIB: u64 = 1 << 20;

fn answer(start: u64, length: u64, areas: &[(u64, u64)]) -> Element {
    let areas: String = areas
        .iter()
        .map(|(start, length)| format!("<changedArea><start>{start}</start><length>{length}</length></changedArea>"))
        .collect();
    let text = format!("<returnval><startOffset>{start}</startOffset><length>{length}</length>{areas}</returnval>");
    parse(text.as_bytes()).unwrap()
}

/// Feeds the answers one by one; the starts asked for and the outcome.
fn run(capacity_bytes: u64, answers: &[Element]) -> (Vec<u64>, Result<Vec<Extent>, String>) {
    let mut areas = Areas::new(2000, capacity_bytes);
    let mut asked = Vec::new();
    for answer in answers {
        let Some(start) = areas.next_start() else { break };
        asked.push(start);
        if let Err(error) = areas.accept(answer) {
            return (asked, Err(error.to_string()));
        }
    }
    if areas.next_start().is_some() {
        return (asked, Err("not finished".to_owned()));
    }
    (asked, Ok(areas.finish()))
}

#[test]
fn requests_follow_the_wsdl() {
    let since = ChangesSince::Change("52 aa/7".parse().unwrap());
    let request = request(&MoRef::vm("vm-1"), &MoRef::vm_snapshot("snapshot-2"), 2000, 5, &since);
    let root = parse(request.envelope().as_bytes()).unwrap();
    let call = &root.children[0].children[0];
    let order: Vec<_> = call.children.iter().map(|child| child.name.as_str()).collect();
    assert_eq!(order, ["_this", "snapshot", "deviceKey", "startOffset", "changeId"]);
    assert_eq!(call.text_of("changeId"), Some("52 aa/7"));
    assert_eq!(ChangesSince::Beginning.as_str(), "*");
}

#[test]
fn pages_are_followed_by_what_they_cover_and_never_past_the_end() {
    let capacity = 10 * MIB;
    let (asked, extents) = run(
        capacity,
        &[
            answer(0, 4 * MIB, &[(0, 512), (MIB, MIB)]),
            answer(4 * MIB, MIB, &[]),
            answer(5 * MIB, 5 * MIB, &[(9 * MIB, MIB)]),
            answer(capacity, 1, &[(0, capacity)]),
        ],
    );
    assert_eq!(asked, [0, 4 * MIB, 5 * MIB]);
    assert_eq!(extents.unwrap(), [Extent::new(0, 512), Extent::new(MIB, MIB), Extent::new(9 * MIB, MIB)]);
}

#[test]
fn areas_are_clamped_sorted_and_joined() {
    let (_, extents) = run(MIB, &[answer(0, 2 * MIB, &[(MIB - 10, 100), (2 * MIB, 5), (100, 10), (0, 100), (50, 0)])]);
    assert_eq!(extents.unwrap(), [Extent::new(0, 110), Extent::new(MIB - 10, 10)]);
    assert_eq!(run(0, &[]).1.unwrap(), []);
}

#[test]
fn answers_that_would_lose_bytes_or_never_end_are_refused() {
    let cases = [
        (answer(0, 0, &[]), "no progress"),
        (answer(10, MIB, &[]), "begins at 10"),
        (parse(b"<returnval><startOffset>0</startOffset><length>-5</length></returnval>").unwrap(), "what it covers"),
        (parse(b"<returnval/>").unwrap(), "what it covers"),
        (
            parse(b"<returnval><startOffset>0</startOffset><length>9</length><changedArea><start>-1</start></changedArea></returnval>")
                .unwrap(),
            "no start",
        ),
    ];
    for (answer, part) in cases {
        let error = run(MIB, &[answer]).1.unwrap_err();
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
    let repeated = [answer(0, 10, &[]), answer(0, 10, &[])];
    assert!(run(MIB, &repeated).1.unwrap_err().contains("no progress"));
}

proptest! {
    #[test]
    fn joining_near_extents_never_loses_a_byte(
        pairs in proptest::collection::vec((0u64..64 * MIB, 1u64..MIB), 1..60),
        limit in 2usize..20,
    ) {
        let mut areas = Areas::new(2000, 64 * MIB);
        areas.accept(&answer(0, 64 * MIB, &pairs)).unwrap();
        areas.bound(limit);
        prop_assert!(areas.extents.len() <= limit);
        let kept = areas.finish();
        for (start, length) in pairs {
            let wanted = Extent::new(start, length).clamp_to(64 * MIB).unwrap();
            prop_assert!(kept.iter().any(|area| area.offset <= wanted.offset && wanted.end() <= area.end()));
        }
        prop_assert!(kept.iter().all(|area| area.end() <= 64 * MIB));
    }
}
