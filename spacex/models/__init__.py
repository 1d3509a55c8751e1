"""The networks: classifier, generator (maximiser and minimiser), discriminator. Plain `torch.nn.Module`."""
