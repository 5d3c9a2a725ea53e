junk junk junk
