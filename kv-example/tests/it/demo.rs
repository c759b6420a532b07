//! The demonstration, as the README promises it.

use crate::process::run;

#[test]
fn the_demonstration_ends_with_every_byte_on_every_node() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("demo");
    let ran = run(&["demo", "--data", data.to_str().unwrap()]).ok();
    let text = ran.text();
    assert!(text.contains("killed node"), "{text}");
    assert_eq!(text.matches("every one as in the text").count(), 3, "{text}");
    assert!(data.join("node1").is_dir());
    run(&["demo", "--data", data.to_str().unwrap()]).fails(2, &["cannot create"]);
}
