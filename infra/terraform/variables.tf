variable "name" {
  description = "The beginning of every resource's name."
  type        = string
  default     = "nearcast"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "3 to 20 lower-case letters, digits and hyphens, a letter first and no hyphen last."
  }
}

variable "region" {
  description = "The AWS region."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "A region such as eu-central-1."
  }
}

variable "cidr" {
  description = "The addresses of the network; a /16 is cut into a public and a private /20 for each of three zones."
  type        = string
  default     = "10.40.0.0/16"

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && endswith(var.cidr, "/16")
    error_message = "A range of 16 bits, such as 10.40.0.0/16."
  }
}

variable "image" {
  description = "The nearcast image, from a registry that ECS may read, by tag or digest; never :latest."
  type        = string

  validation {
    condition     = can(regex("(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9_.-]*)$", var.image)) && !endswith(var.image, ":latest")
    error_message = "An image with a tag other than latest, or with a digest."
  }
}

variable "certificate_arn" {
  description = "The ACM certificate of the API's HTTPS listener."
  type        = string

  validation {
    condition     = startswith(var.certificate_arn, "arn:aws")
    error_message = "The ARN of an ACM certificate."
  }
}

variable "api_clients" {
  description = "Address ranges that may call the API. Empty: nobody outside the network."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for range in var.api_clients : can(cidrhost(range, 0))])
    error_message = "Address ranges such as 203.0.113.0/24."
  }
}

variable "mongodb_uri_secret_arn" {
  description = "A Secrets Manager secret whose whole value is the URI of a MongoDB 7 (Atlas, or your own), with user and password."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:secretsmanager:", var.mongodb_uri_secret_arn))
    error_message = "The ARN of a Secrets Manager secret."
  }
}

variable "milvus_address" {
  description = "Where Milvus answers (Zilliz Cloud, or your own by its Helm chart)."
  type        = string

  validation {
    condition     = can(regex("^https?://[^/]+$", var.milvus_address))
    error_message = "An address such as https://host:19530, without a path."
  }
}

variable "milvus_token_secret_arn" {
  description = "A Secrets Manager secret whose whole value is Milvus' token; null where it asks for none."
  type        = string
  default     = null
}

variable "neo4j_uri" {
  description = "Where Neo4j answers (Aura, or your own by its Helm chart): the core address, which takes writes."
  type        = string

  validation {
    condition     = can(regex("^(bolt|neo4j)://[^/]+$", var.neo4j_uri))
    error_message = "An address such as neo4j://host:7687; encryption is neo4j_tls."
  }
}

variable "neo4j_tls" {
  description = "Whether Neo4j is spoken to encrypted, as Aura asks for."
  type        = bool
  default     = true
}

variable "neo4j_user" {
  description = "Neo4j's user."
  type        = string
  default     = "neo4j"
}

variable "neo4j_password_secret_arn" {
  description = "A Secrets Manager secret whose whole value is Neo4j's password."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:secretsmanager:", var.neo4j_password_secret_arn))
    error_message = "The ARN of a Secrets Manager secret."
  }
}

variable "kafka" {
  description = "MSK: the brokers' kind, and how many in each of the three zones."
  type = object({
    instance_type    = optional(string, "kafka.m7g.large")
    brokers_per_zone = optional(number, 1)
    volume_gib       = optional(number, 500)
    version          = optional(string, "3.9.x")
  })
  default = {}

  validation {
    condition     = var.kafka.brokers_per_zone >= 1 && var.kafka.volume_gib >= 10
    error_message = "At least one broker a zone, and 10 GiB a broker."
  }
}

variable "postgres" {
  description = "RDS: the instance's kind and its storage."
  type = object({
    instance_class = optional(string, "db.m7g.large")
    storage_gib    = optional(number, 200)
    max_gib        = optional(number, 1000)
    version        = optional(string, "16")
  })
  default = {}

  validation {
    condition     = var.postgres.storage_gib >= 20 && var.postgres.max_gib >= var.postgres.storage_gib
    error_message = "At least 20 GiB, and no smaller a maximum."
  }
}

variable "cache_node_type" {
  description = "ElastiCache: the nodes' kind."
  type        = string
  default     = "cache.m7g.large"
}

variable "serve" {
  description = "The API: a task's size, and between how many tasks it scales by CPU."
  type = object({
    cpu    = optional(number, 2048)
    memory = optional(number, 8192)
    min    = optional(number, 3)
    max    = optional(number, 24)
  })
  default = {}

  validation {
    condition     = var.serve.min >= 1 && var.serve.max >= var.serve.min
    error_message = "At least one task, and no smaller a maximum."
  }
}

variable "ingest" {
  description = "The workers: a task's size, and how many. More than the topic has partitions do nothing."
  type = object({
    cpu    = optional(number, 2048)
    memory = optional(number, 8192)
    count  = optional(number, 4)
  })
  default = {}

  validation {
    condition     = var.ingest.count >= 1
    error_message = "At least one worker."
  }
}

variable "protect" {
  description = "Keep databases from being deleted, and take a last snapshot when they are."
  type        = bool
  default     = true
}
