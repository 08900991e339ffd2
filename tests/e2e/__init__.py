"""fe as its users meet it: fe-serve as a process, clients and replicas on real sockets."""
