//! Ten steps in a row that do nothing, each durable before the next, as a service of Restate.

// The macro of the SDK uses what the SDK has deprecated.
#![allow(deprecated)]

use restate_sdk::prelude::*;

#[restate_sdk::service]
trait Bench {
    async fn steps(input: u64) -> Result<u64, HandlerError>;
}

struct BenchImpl;

impl Bench for BenchImpl {
    async fn steps(&self, ctx: Context<'_>, input: u64) -> Result<u64, HandlerError> {
        let mut value = input;
        for _ in 0..10 {
            value = ctx.run(|| async move { Ok(value) }).await?;
        }
        Ok(value)
    }
}

#[tokio::main]
async fn main() {
    let address = std::env::args().nth(1).expect("the address to listen on");
    HttpServer::new(Endpoint::builder().bind(BenchImpl.serve()).build())
        .listen_and_serve(address.parse().expect("an address"))
        .await;
}
