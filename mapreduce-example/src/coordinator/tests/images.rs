//! The table comes back from an image as it was; an image that makes no sense is refused, whatever is in it.

use super::stragglers::straggling;
use super::*;

fn image(coordinator: &Coordinator) -> Vec<u8> {
    let mut image = Vec::new();
    coordinator.snapshot().write_to(&mut image).unwrap();
    image
}

pub(super) fn restored(coordinator: &Coordinator) -> Coordinator {
    let mut restored = Coordinator::default();
    restored.restore(&mut &*image(coordinator)).unwrap();
    restored
}

/// Jobs of every kind.
fn table() -> Coordinator {
    let (mut table, _) = straggling();
    table.wait(SECOND);
    table.begin(BOB, &[], 1);
    let done = table.submit(spec(1, 1, 1));
    table.apply(Command::Cancel { job: done });
    let failing = table.submit(spec(3, 2, 5));
    let begun = table.begin(WorkerId(3), &[], 2);
    assert_eq!(begun[0].job, failing);
    table.work(WorkerId(3), &begun[1..], vec![Report::Failed(begun[0], "no".to_owned())], 1);
    table.coordinator
}

#[test]
fn a_table_that_is_restored_is_the_same_in_every_part() {
    let table = table();
    assert_eq!(restored(&table), table);
}

#[test]
fn a_snapshot_stays_as_it_was_while_commands_go_on() {
    let mut table = Table { coordinator: table(), index: 100, time: 10 * SECOND };
    let (before, view) = (table.coordinator.clone(), table.coordinator.snapshot());
    table.submit(spec(2, 2, 2));
    table.begin(ANN, &[], 5);
    let mut image = Vec::new();
    view.write_to(&mut image).unwrap();
    let mut restored = Coordinator::default();
    restored.restore(&mut &*image).unwrap();
    assert_eq!(restored, before);
}

#[test]
fn an_image_that_ends_early_or_goes_on_is_an_error() {
    let image = image(&table());
    for len in 0..image.len() {
        assert!(Coordinator::default().restore(&mut &image[..len]).is_err(), "{len} bytes");
    }
    let longer = [&image[..], &[0]].concat();
    assert!(Coordinator::default().restore(&mut &*longer).is_err());
}

#[test]
fn a_damaged_image_is_an_error_or_a_table_that_makes_sense() {
    let image = image(&table());
    for at in 0..image.len() {
        for bit in 0..8 {
            let mut damaged = image.clone();
            damaged[at] ^= 1 << bit;
            let mut coordinator = Coordinator::default();
            if coordinator.restore(&mut &*damaged).is_ok() {
                assert_eq!(restored(&coordinator), coordinator, "bit {bit} of byte {at}");
            }
        }
    }
}
