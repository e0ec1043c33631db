"""A GitHub on this machine: API, git over HTTPS and Actions, for the demo and the tests of the workflows."""
