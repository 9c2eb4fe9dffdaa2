variable "name" {
  description = "The beginning of every resource's name."
  type        = string
}

variable "cidr" {
  description = "The addresses of the network."
  type        = string
}
