# The chat example with every broker. Built from the root of the repository.
FROM rust:1-bookworm AS build
WORKDIR /trunkline
COPY . .
RUN cargo build --release --locked -p trunkline --example chat --features redis,nats,rabbitmq,postgres,mongodb

FROM debian:bookworm-slim
RUN useradd --system chat
COPY --from=build /trunkline/target/release/examples/chat /usr/local/bin/chat
USER chat
ENTRYPOINT ["chat"]
