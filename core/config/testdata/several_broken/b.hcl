pipeline "two" {
  asset = local.from_a
  source "host" "in" {
  oops
  }
}
