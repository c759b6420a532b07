//! Clients that take what they know for more than it is.

use super::*;

/// What a client makes of a put of which nobody knows.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Believes {
    /// By versions: it was not done.
    No,
    /// In a session that has ended, or that nobody answers in: it was done.
    Yes,
}

struct Overconfident {
    believes: Believes,
    clerks: Clerks,
}

fn overconfident(believes: Believes) -> Overconfident {
    Overconfident { believes, clerks: Clerks::default() }
}

#[async_trait]
impl Workload for Overconfident {
    type Machine = Store;
    type Model = StoreModel;

    fn model(&self, _: &Factory<Store>) -> StoreModel {
        StoreModel::default()
    }

    async fn operation(&self, session: &mut Session<Overconfident>) {
        let found = self.clerks.members().remove(&session.number());
        let member = found.unwrap_or_else(|| self.clerks.member(session));
        let key = "k";
        let found = self.clerks.read_version(session, &member, key).await;
        if let Some(version) = found {
            let value = self.clerks.draw_value(session);
            let request = register::Request::Put {
                key: key.to_owned(),
                value: Digest::of(&value),
                version: version.0,
            };
            let (believes, clerk) = match self.believes {
                Believes::No => (Ended::Failed, &member.clerk),
                Believes::Yes => {
                    let version = version.next().0;
                    let written = register::Reply::Written { version };
                    (Ended::Answered(Reply::Key(written)), &member.in_session)
                }
            };
            let call = async {
                match by_clerk(clerk, put(key, value, version)).await {
                    Ended::Maybe => believes,
                    told @ (Ended::Answered(_) | Ended::Failed) => told,
                }
            };
            session.record(Request::Key(request), call).await;
        }
        self.clerks.members().insert(session.number(), member);
    }
}

#[test]
fn clients_that_take_a_maybe_for_a_no_are_found_out() {
    let violated = found(store, || overconfident(Believes::No), None);
    assert_eq!(violated.violation.checker, "linearizability");
}

#[test]
fn clients_that_take_a_yes_for_granted_when_their_session_has_ended_are_found_out() {
    let violated = found(store, || overconfident(Believes::Yes), None);
    assert_eq!(violated.violation.checker, "linearizability");
}
