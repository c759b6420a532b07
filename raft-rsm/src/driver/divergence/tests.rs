use super::*;

fn mark(index: u64, checksum: u32) -> Mark {
    Mark { index: LogIndex(index), checksum }
}

fn voters(count: u64) -> Configuration {
    Configuration::new((1..=count).map(NodeId), [])
}

/// Node 1 of a cluster that does not change.
struct One {
    comparison: Comparison,
    configuration: Configuration,
}

impl One {
    fn of(configuration: Configuration) -> One {
        One { comparison: Comparison::new(NodeId(1)), configuration }
    }

    fn reaches(&mut self, index: u64, checksum: u32) -> Vec<Finding> {
        self.comparison.reached(mark(index, checksum), &self.configuration)
    }

    fn hears(&mut self, peer: u64, index: u64, checksum: u32) -> Vec<Finding> {
        self.hears_and_answers(peer, index, checksum).0
    }

    fn hears_and_answers(
        &mut self,
        peer: u64,
        index: u64,
        checksum: u32,
    ) -> (Vec<Finding>, Option<Mark>) {
        let told = mark(index, checksum);
        let Heard { findings, answer } =
            self.comparison.hear(NodeId(peer), told, &self.configuration);
        (findings, answer)
    }

    fn found(&self) -> Option<(u64, u64)> {
        self.comparison.found().map(|found| (found.peer.0, found.index.0))
    }

    fn kept(&self) -> usize {
        let heard: usize = self.comparison.heard.values().map(BTreeMap::len).sum();
        self.comparison.own.len() + heard
    }
}

fn differs(peer: u64, index: u64) -> Finding {
    Finding::Differs { peer: NodeId(peer), index: LogIndex(index) }
}

fn split(index: u64) -> Finding {
    Finding::Split { index: LogIndex(index) }
}

fn outvoted(index: u64, agreed: Option<u64>, own: u32, majority: u32) -> Finding {
    Finding::Outvoted { index: LogIndex(index), agreed: agreed.map(LogIndex), own, majority }
}

#[test]
fn replicas_that_are_alike_find_nothing() {
    let mut one = One::of(voters(3));
    for n in 1..100 {
        assert_eq!(one.hears(2, n * 10, 7), []);
        assert_eq!(one.reaches(n * 10, 7), []);
        assert_eq!(one.hears_and_answers(3, n * 10, 7), (vec![], None));
    }
    assert_eq!(one.found(), None);
}

#[test]
fn who_differs_from_a_majority_is_outvoted_and_told_where_it_was_alike_last() {
    let mut one = One::of(voters(3));
    one.reaches(10, 1);
    one.hears(2, 10, 1);
    assert_eq!(one.reaches(20, 2), []);
    assert_eq!(one.hears(2, 20, 9), [differs(2, 20)]);
    assert_eq!(one.hears(3, 20, 9), [outvoted(20, Some(10), 2, 9)]);
}

#[test]
fn who_has_never_been_alike_says_so() {
    let mut one = One::of(voters(3));
    one.hears(2, 20, 9);
    one.hears(3, 20, 9);
    assert_eq!(one.reaches(20, 2), [outvoted(20, None, 2, 9)]);
}

#[test]
fn a_majority_finds_the_one_that_differs_and_goes_on() {
    let mut one = One::of(voters(3));
    one.reaches(10, 1);
    assert_eq!(one.hears(2, 10, 1), []);
    assert_eq!(one.hears(3, 10, 5), [differs(3, 10)]);
    assert_eq!(one.found(), Some((3, 10)));
    // It is said once.
    one.reaches(20, 2);
    one.hears(2, 20, 2);
    assert_eq!(one.hears(3, 20, 6), []);
    assert_eq!(one.found(), Some((3, 10)));
    // It came back with an empty disk.
    one.reaches(30, 3);
    assert_eq!(one.hears(3, 30, 3), []);
    assert_eq!(one.found(), None);
}

#[test]
fn more_than_half_of_those_that_have_spoken_is_no_majority() {
    let mut one = One::of(voters(5));
    one.reaches(10, 1);
    assert_eq!(one.hears(2, 10, 9), [differs(2, 10)]);
    assert_eq!(one.hears(3, 10, 9), [differs(3, 10)]);
    assert_eq!(one.hears(4, 10, 9), [outvoted(10, None, 1, 9)]);
}

#[test]
fn without_a_majority_all_report_once_everybody_has_spoken() {
    let mut two = One::of(voters(2));
    two.reaches(10, 1);
    assert_eq!(two.hears(2, 10, 9), [differs(2, 10), split(10)]);
    two.reaches(20, 2);
    assert_eq!(two.hears(2, 20, 8), [], "it is said once");
    assert_eq!(two.found(), Some((2, 10)));

    let mut four = One::of(voters(4));
    four.reaches(10, 1);
    assert_eq!(four.hears(2, 10, 1), []);
    assert_eq!(four.hears(3, 10, 9), [differs(3, 10)]);
    assert_eq!(four.hears(4, 10, 9), [differs(4, 10), split(10)]);

    let mut three = One::of(voters(3));
    three.reaches(10, 1);
    assert_eq!(three.hears(2, 10, 2), [differs(2, 10)]);
    assert_eq!(three.hears(3, 10, 3), [differs(3, 10), split(10)]);
}

#[test]
fn a_learner_is_compared_and_has_no_say() {
    let with_learners = Configuration::new([2, 3, 4].map(NodeId), [1, 5].map(NodeId));
    let mut learner = One::of(with_learners);
    learner.reaches(10, 1);
    assert_eq!(learner.hears(5, 10, 1), []);
    assert_eq!(learner.hears(2, 10, 9), [differs(2, 10)]);
    assert_eq!(learner.hears(3, 10, 9), [outvoted(10, None, 1, 9)]);

    let mut voter = One::of(Configuration::new([1, 2, 3].map(NodeId), [4, 5].map(NodeId)));
    voter.reaches(10, 1);
    voter.hears(4, 10, 9);
    voter.hears(5, 10, 9);
    assert_eq!(voter.hears(3, 10, 1), []);
    assert_eq!(voter.found(), Some((4, 10)));
}

#[test]
fn a_joint_configuration_needs_a_majority_of_each_set() {
    let joint = Configuration::joint([1, 2, 3].map(NodeId), [3, 4, 5].map(NodeId), []);
    let mut one = One::of(joint);
    one.reaches(10, 1);
    one.hears(2, 10, 9);
    assert_eq!(one.hears(3, 10, 9), [differs(3, 10)]);
    assert_eq!(one.hears(4, 10, 9), [outvoted(10, None, 1, 9)]);
}

#[test]
fn who_is_no_member_learns_nothing_from_others() {
    let mut one = One::of(Configuration::new([2, 3, 4].map(NodeId), []));
    one.reaches(10, 1);
    one.hears(2, 10, 9);
    assert_eq!(one.hears(3, 10, 9), []);
}

#[test]
fn what_others_said_in_advance_is_compared_when_this_node_comes_there() {
    let mut one = One::of(voters(3));
    // Far ahead: it keeps what this node comes to first.
    for n in 1..=100 {
        assert_eq!(one.hears_and_answers(2, n * 10, 9), (vec![], None));
    }
    assert_eq!(one.reaches(10, 9), []);
    assert_eq!(one.reaches(20, 2), [differs(2, 20)]);
}

#[test]
fn marks_that_nobody_else_makes_are_not_compared() {
    let mut one = One::of(voters(2));
    one.hears(2, 15, 9);
    one.reaches(20, 1);
    one.hears(2, 25, 8);
    assert_eq!(one.hears(2, 15, 9), []);
    assert_eq!(one.reaches(40, 2), []);
    assert_eq!((one.found(), one.kept()), (None, 2));
}

#[test]
fn late_and_repeated_marks_change_nothing() {
    let mut one = One::of(voters(2));
    for n in 1..=20 {
        one.reaches(n * 10, 1);
    }
    // Older than what is kept.
    assert_eq!(one.hears_and_answers(2, 10, 9), (vec![], None));
    // Late, and repeated.
    let news = (vec![differs(2, 150), split(150)], Some(mark(150, 1)));
    assert_eq!(one.hears_and_answers(2, 150, 9), news);
    assert_eq!(one.hears_and_answers(2, 150, 9), (vec![], None));
    assert_eq!(one.found(), Some((2, 150)));
}

/// Whatever is lost, one packet that arrives is enough for both, and two replicas do not answer each other for ever.
#[test]
fn one_packet_that_arrives_tells_both() {
    let mut pair = [1, 2].map(|id| Comparison::new(NodeId(id)));
    let configuration = voters(2);
    for (comparison, checksum) in pair.iter_mut().zip(1..) {
        for n in 1..=20 {
            comparison.reached(mark(n * 10, checksum), &configuration);
        }
    }
    let [one, two] = &mut pair;
    let answer = two.hear(NodeId(1), mark(200, 1), &configuration).answer;
    let again = one.hear(NodeId(2), answer.expect("it differs"), &configuration).answer;
    let end = two.hear(NodeId(1), again.expect("news to this one"), &configuration).answer;
    assert_eq!(end, None);
    assert!(one.found().is_some() && two.found().is_some());
}

#[test]
fn a_restored_replica_is_not_measured_by_what_it_was() {
    let mut one = One::of(voters(3));
    one.reaches(10, 1);
    assert_eq!(one.hears(2, 10, 9), [differs(2, 10)]);
    one.hears(2, 50, 9);
    one.comparison.restored(LogIndex(30));
    assert_eq!(one.found(), None);
    // What comes late from before the snapshot.
    for index in [10, 20, 30] {
        assert_eq!(one.hears_and_answers(3, index, 9), (vec![], None));
    }
    assert_eq!(one.kept(), 1);
    assert_eq!(one.reaches(50, 9), []);
}

#[test]
fn who_leaves_is_forgotten() {
    let mut one = One::of(voters(3));
    one.reaches(10, 1);
    one.hears(2, 10, 1);
    one.hears(3, 10, 9);
    one.configuration = voters(2);
    one.reaches(20, 1);
    assert_eq!((one.found(), one.kept()), (None, 3));
}

#[test]
fn memory_is_bounded_whatever_others_say() {
    let mut one = One::of(voters(3));
    for n in 1..=1000u64 {
        one.reaches(n, 1);
        for far in 0..20 {
            one.hears(2, n.saturating_sub(10) + far, 1);
            one.hears(3, u64::MAX - far, 1);
        }
        assert!(one.kept() <= 5 * MARKS_MAX, "{}", one.kept());
    }
    // What was said of an index that never comes does not keep out what is true.
    one.hears(3, 1001, 9);
    assert_eq!(one.reaches(1001, 1), [differs(3, 1001)]);
}
