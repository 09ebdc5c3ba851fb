//! Both sides of the handshake against bytes written by hand, against each other, and against noise.
