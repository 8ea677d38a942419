//! Runs a broker in the foreground: `cargo run -p dev-broker --example broker -- 127.0.0.1:9092 [DATA_DIR]`.

use dev_broker::{DevBroker, DevBrokerConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().ok_or("the address to listen on is missing")?.parse()?;
    let data_dir = arguments.next().map(Into::into);
    let broker = DevBroker::start(DevBrokerConfig {
        listen,
        data_dir,
        ..Default::default()
    })?;
    tokio::signal::ctrl_c().await?;
    broker.stop().await;
    Ok(())
}
