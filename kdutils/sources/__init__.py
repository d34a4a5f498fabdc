"""Where images come from: CIFAR-10, a folder, drawn shapes."""
