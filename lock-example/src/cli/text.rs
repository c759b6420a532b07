//! What the command line says of itself.

pub(super) const AFTER_HELP: &str = "\
Try it:
  lock-example demo

The locks are in a store of kv-example; its nodes know nothing of them:
  CLUSTER=1=127.0.0.1:7101,2=127.0.0.1:7102,3=127.0.0.1:7103
  kv-example node --id 1 --cluster $CLUSTER --data node1 --init    # and so on
  lock-example run --cluster $CLUSTER --name backup -- ./backup.sh

Exit codes:
  0  it was done
  1  the answer is no: a token is old
  2  the command was used wrongly, or a file or a majority of the nodes is missing
`lock-example run` has others: see `lock-example run --help`.";

pub(super) const RUN_HELP: &str = "\
Examples:
  lock-example run --cluster $CLUSTER --name backup -- ./backup.sh
  lock-example run --cluster $CLUSTER --name log -- lock-example append log.txt 'it is my turn'

Those who wait have their turn in the order in which they came. The command has the lock's name and the fencing token \
in its environment, as LOCK_NAME and LOCK_TOKEN. A token is greater than that of every holder before: pass it on to \
whatever the lock protects, and have that refuse smaller ones.

The lock passes to the next one when the command has ended, and when nothing was heard of this process for --ttl. \
Where the store does not answer when the command has ended, this process does not wait longer than two seconds for \
it. Should it find that its lease is lost, because it was paused or cut off from the store, it tells the command to \
end (SIGTERM) and kills it after --grace. By then the next holder may be at work: that is what the token is for, also \
where this process was killed and the command goes on without it.

SIGINT and SIGTERM are passed on to the command, and SIGHUP and SIGQUIT as SIGTERM. The command runs in a process \
group of its own: what it has started is told as well, and once it was told, the lock is kept until all of it has \
ended, or --grace after the command itself has, when the rest is killed. If stdin is a terminal, there is no such \
group: the terminal's keys reach the command without this process, and what the command has started is not told when \
the lease is lost. Whoever is told to end while waiting leaves the line.

Exit codes:
  that of the command; 128 and the signal's number if one ended it
  2    this was used wrongly; nothing was started
  123  the lease was lost before the command was seen to end, and it was stopped if it still ran
  124  others held the lock, or waited for it, for as long as --wait; nothing was started
  125  the lock cannot be had: no majority of the nodes answers, say; nothing was started
  126  the command cannot be started
  127  there is no such command";

pub(super) const APPEND_HELP: &str = "\
Each line of the file is a token, a tab, and the text. A token smaller than that of the last line is refused, with exit \
code 1: so whoever has lost the lock cannot write any more, even if nobody has told them yet.

Example:
  lock-example run --cluster $CLUSTER --name log -- lock-example append log.txt 'it is my turn'";

pub(super) const DEMO_HELP: &str = "\
Three nodes start in this process, on ports of the loopback interface and disks in a temporary directory. Five workers \
contend for a lock; then a holder is killed, and another one is paused for longer than its lease lives. The exit code is 0 \
only if all of them had their turn in order and the fence refused who came too late.";
