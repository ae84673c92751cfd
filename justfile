# Short names for the scripts and commands of this repository. `just` lists them.

[private]
default:
    @just --list

# What CI runs: formatting, lints, documentation, all tests
ci:
    .ci/run

# The integration tests, for example `just test --only clients`
test *ARGS:
    sh integration-tests/run.sh {{ARGS}}

# The chat example on http://127.0.0.1:3001, for example `just chat --nodes 5`
chat *ARGS:
    cargo run --release --example chat -- {{ARGS}}

# Format all Rust code
fmt:
    cargo fmt --all

# Lint as CI does
lint:
    cargo clippy --workspace --all-targets --all-features -- -D warnings

# Build the documentation as CI does and open it
doc:
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --all-features --open

# Package every published crate and build each from its package alone; nothing may be uncommitted
package *ARGS:
    sh scripts/package.sh {{ARGS}}

# Check with exactly the oldest Rust version that is supported
msrv:
    sh scripts/msrv.sh

# Licences, sources and advisories of all dependencies, and dependencies that nothing uses
audit:
    sh scripts/audit.sh

# Clusters over real brokers beside other adapters and the bare brokers, for example `just bench redis --workload w1 --link 0.5ms`
bench *ARGS:
    sh integration-tests/bench/run.sh {{ARGS}}

# Tables and charts (docs/benchmarks/*.svg) of a results file, for example `just bench-report docs/benchmarks/results.jsonl`
bench-report *ARGS:
    cargo run --release -p trunkline-bench -- report {{ARGS}}

# Allocations of encode, decode and deliver against their budgets (docs/architecture.md), in seconds; part core of `just test` runs it, too
bench-check:
    cargo test -p trunkline-core --test allocations -- --nocapture

# How the cost grows with the number of nodes, for example `just scaling redis nats --processes 2,4`; writes docs/scaling/results.jsonl
scaling *ARGS:
    cargo run --release -p trunkline-bench -- scaling {{ARGS}}

# Tables and charts (docs/scaling/*.svg) of what `just scaling` has measured
scaling-report *ARGS:
    cargo run --release -p trunkline-bench -- scaling-report {{ARGS}}

# Minutes in mixed clusters of Rust and Node.js nodes, for example `just soak redis-streams --minutes 10`; see `just soak --help`
soak *ARGS:
    sh integration-tests/node/soak/run.sh {{ARGS}}

# Hostile messages to running clusters while valid traffic flows, for example `just hostile nats --messages 1000000 --seed 7`
hostile *ARGS:
    cargo build -p trunkline-hostile -p trunkline-test-nodes
    cargo run -p trunkline-hostile -- {{ARGS}}

# Coverage-guided fuzzing of one decoder, for example `just fuzz core_message --minutes 5`; lists the targets without one
fuzz *ARGS:
    sh fuzz/run.sh {{ARGS}}

# Faults on clusters under load, for example `just faults nats --fault broker-killed`; all of them without arguments; see `just faults --help`
faults *ARGS:
    sh integration-tests/faults/run.sh {{ARGS}}

# Balancers with the configurations of docker/balancers/, a minute each, for example `just balancers haproxy`; see `just balancers --help`
balancers *ARGS:
    sh integration-tests/node/balancers/run.sh {{ARGS}}

# Benchmarks of the core (criterion): codec, payload, room index, engine; `just bench-core --quick` for a smoke
bench-core *ARGS:
    cargo bench -p trunkline-core -- {{ARGS}}

# The simulated network: 10,000 seeds, or e.g. `just simulate 500000 1000000` (so many, from that one on); says how to repeat a failing one
simulate seeds="10000" first="0":
    TRUNKLINE_SEEDS={{seeds}} TRUNKLINE_FIRST_SEED={{first}} cargo test --release -p trunkline-core --test simulation all_promises -- --nocapture

# Brokers in containers, for example `just up redis`; all of them without a name
up *BROKERS:
    sh docker/brokers.sh up {{BROKERS}}

# Stop and remove the containers
down:
    sh docker/brokers.sh down

# The conformance suite against the broker in a container, for example `just conformance redis`
conformance BROKER *ARGS:
    sh docker/brokers.sh conformance {{BROKER}} {{ARGS}}
