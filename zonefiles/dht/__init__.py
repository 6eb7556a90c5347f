"""The Kademlia node that trusts nobody."""
