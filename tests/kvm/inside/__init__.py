"""What runs on the host with KVM, beside the test bed; an edit of the tests alone makes no new host."""
