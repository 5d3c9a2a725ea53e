# var given=abc
# var list=["a", 1]
# var numbers=[1, "two"]
# var broken=[1,
# var calls=upper("x")
# var fligt=never shown
# var token=never shown
# var even=3
variable "given" {
  type = number
}
variable "list" {
  type = list(string)
}
variable "numbers" {
  type    = list(number)
  default = []
}
variable "broken" {
  type = list(number)
}
variable "calls" {
  type = list(string)
}
variable "flight" {
  type = string
}
variable "token" {
  type      = number
  sensitive = true
}
variable "even" {
  type = number
  validation {
    condition     = var.even % 2 == 0
    error_message = "The number must be even."
  }
  validation {
    condition     = "perhaps"
    error_message = "Never."
  }
  validation {
    error_message = "Never."
  }
  validation {
    condition = var.given == 1
  }
}
variable "types" {
  type    = strng
  default = "x"
}
variable "fallback" {
  type    = map(number)
  default = { a = "x" }
}
variable "extra" {
  default   = "x"
  sensetive = true
}
pipeline "p" {

  source "host" "in" {}
  transport "parquet" "out" {
    dir = "/lake"
  }

}
