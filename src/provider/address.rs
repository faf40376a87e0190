//! Which addresses may be called.
//!
//! A name says nothing about where it leads, and may lead elsewhere the next time. So the operator's
//! word about a target is held against the address that the name has when a connection is made.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a target that is not marked `private` may be called at this address: only if it belongs
/// to the public internet.
pub fn address_allowed(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => allowed_v4(ip),
        IpAddr::V6(ip) => allowed_v6(ip),
    }
}

fn allowed_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = a == 0
        || ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_multicast()
        || a >= 240
        // Shared by carriers; protocol assignments; benchmarks.
        || (a == 100 && (64..=127).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..=19).contains(&b));
    !special
}

fn allowed_v6(ip: Ipv6Addr) -> bool {
    if let Some(inner) = ip.to_ipv4_mapped() {
        return allowed_v4(inner);
    }
    let [a, b, c, ..] = ip.segments();
    let special = ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
        || (a & 0xfe00) == 0xfc00 // unique local
        || (a & 0xffc0) == 0xfe80 // link local
        || (a & 0xffc0) == 0xfec0 // site local, long withdrawn
        || a == 0x2002 // 6to4: any IPv4 address inside
        || (a == 0x0064 && b == 0xff9b) // NAT64: likewise
        || (a == 0x2001 && b == 0x0db8) // documentation
        || (a == 0x2001 && b == 0) // Teredo
        || (a == 0 && b == 0 && c == 0); // IPv4-compatible
    !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_public_internet() {
        for refused in [
            // This machine, and ways to write it.
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.1.2.3",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:7f00:1",
            "::127.0.0.1",
            // Private networks.
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "fc00::1",
            "fd00:ec2::254",
            "::ffff:10.0.0.1",
            // Link-local, the metadata services of clouds among them.
            "169.254.169.254",
            "169.254.170.2",
            "::ffff:169.254.169.254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            // Shared by carriers; assignments; benchmarks; documentation.
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "2001:db8::1",
            // Addresses with another one inside.
            "2002:7f00:1::",
            "2002:808:808::1",
            "2001:0:1::1",
            "64:ff9b::7f00:1",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::1",
            // Nobody's in particular.
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "ff02::1",
        ] {
            assert!(!address_allowed(refused.parse().unwrap()), "{refused}");
        }
    }

    #[test]
    fn the_public_internet() {
        for allowed in [
            "8.8.8.8",
            "1.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.255.255",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001::200e",
            "2003::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(address_allowed(allowed.parse().unwrap()), "{allowed}");
        }
    }
}
