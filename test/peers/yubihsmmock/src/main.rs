// Serves a mock device on 127.0.0.1, at the port of its only argument, until it is killed.
use yubihsm::connector::http::Server;
use yubihsm::{Connector, HttpConfig};

fn main() {
    let port = std::env::args().nth(1).expect("usage: yubihsmmock PORT");
    let config = HttpConfig {
        port: port.parse().expect("PORT is a number"),
        ..HttpConfig::default()
    };
    let server = Server::new(&config, Connector::mockhsm()).expect("cannot listen");
    println!("listening");
    loop {
        // A request that it does not understand ends no more than that request.
        if let Err(e) = server.handle_request() {
            eprintln!("{e}");
        }
    }
}
