"""What is measured on the machine itself: one sensor in each module."""
