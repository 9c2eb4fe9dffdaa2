variable "name" {
  description = "The beginning of every resource's name."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnet_ids" {
  description = "One private subnet for each zone."
  type        = list(string)
}

variable "clients" {
  description = "The security group that may connect."
  type        = string
}

variable "node_type" {
  description = "The nodes' kind."
  type        = string
}
