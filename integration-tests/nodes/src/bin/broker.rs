//! A broker for a test program in another language: starts a private one, prints its URL, and stops it when standard
//! input is closed.

use std::{
    io::{Read, Write},
    process::ExitCode,
};

use clap::{Parser, ValueEnum};
use trunkline_brokers::{MongoDb, Nats, Postgres, RabbitMq, Redis, Result};

/// A private broker, until standard input is closed.
#[derive(Debug, Parser)]
#[command(name = "test-broker")]
struct Arguments {
    broker: Broker,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Broker {
    Mongodb,
    Nats,
    Postgres,
    Rabbitmq,
    Redis,
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve(Arguments::parse().broker).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("test-broker: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(broker: Broker) -> Result<()> {
    match broker {
        Broker::Mongodb => until_stdin_closes(MongoDb::start().await?.url()),
        Broker::Nats => until_stdin_closes(Nats::start().await?.url()),
        Broker::Postgres => until_stdin_closes(Postgres::start().await?.url()),
        Broker::Rabbitmq => until_stdin_closes(RabbitMq::start().await?.url()),
        Broker::Redis => until_stdin_closes(Redis::start().await?.url()),
    }
    Ok(())
}

/// The broker lives as long as the URL is borrowed.
fn until_stdin_closes(url: &str) {
    // If no program reads it, standard input is closed as well.
    writeln!(std::io::stdout(), "{url}").ok();
    std::io::stdin().read_to_end(&mut Vec::new()).ok();
}
