//! The core alone: three nodes in one thread, entries of 256 bytes, committed and applied on all three.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::expect_used, reason = "a benchmark that cannot run says so by a panic")]

use benches::{CoreCluster, commands};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core/commit");
    for batch in [1, 64, 1024] {
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            let mut cluster = CoreCluster::elected().expect("sound options");
            bencher.iter_batched(
                || commands(batch, 256).collect::<Vec<_>>(),
                |commands| cluster.commit(commands).expect("room for a batch"),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, commit);
criterion_main!(benches);
