//! Where a request comes from.
//!
//! The other end of the connection, unless that is a proxy which the operator trusts: only then does a header count, and
//! of it only what the trusted proxies themselves have written.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The other end of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer(pub SocketAddr);

/// The address of the caller: the other end of the connection, unless that is a trusted proxy. Then the right-most
/// address of `X-Forwarded-For` that is not one, because whatever stands left of it was written by the caller.
pub fn client_ip(peer: Peer, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |ip: &IpAddr| is_in(*ip, trusted);
    let mut client = peer.0.ip().to_canonical();
    if !is_trusted(&client) {
        return client;
    }
    let forwarded: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok()).collect();
    for hop in forwarded.iter().flat_map(|value| value.split(',')).rev() {
        let Ok(ip) = hop.trim().parse::<IpAddr>() else { break };
        client = ip.to_canonical();
        if !is_trusted(&client) {
            break;
        }
    }
    client
}

/// Whether an address is in one of the networks.
pub fn is_in(client: IpAddr, networks: &[IpNet]) -> bool {
    networks.iter().any(|net| net.contains(&client))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().expect("a net")];
        let table = [
            ("192.0.2.1:1", "198.51.100.7", "192.0.2.1"),
            ("10.0.0.1:1", "198.51.100.7", "198.51.100.7"),
            ("10.0.0.1:1", "6.6.6.6, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
            ("10.0.0.1:1", "nonsense", "10.0.0.1"),
            ("10.0.0.1:1", "", "10.0.0.1"),
        ];
        for (peer, forwarded, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", forwarded.parse().expect("a header"));
            let client = client_ip(Peer(peer.parse().expect("an address")), &headers, &trusted);
            assert_eq!(client.to_string(), expected);
        }
    }
}
