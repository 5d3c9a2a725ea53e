locals {
  a = 1e999
  b = 1e-999999999999
}
