# MSK over three zones: TLS and SCRAM only, records on two brokers before a producer hears of it, topics made by nobody
# but `nearcast setup`.

resource "aws_security_group" "this" {
  name   = "${var.name}-kafka"
  vpc_id = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  security_group_id            = aws_security_group.this.id
  referenced_security_group_id = var.clients
  from_port                    = 9096
  to_port                      = 9096
  ip_protocol                  = "tcp"
}

resource "aws_kms_key" "this" {
  description         = "${var.name}: Kafka's data at rest and its users' passwords"
  enable_key_rotation = true
}

resource "aws_msk_configuration" "this" {
  name           = var.name
  kafka_versions = [var.kafka_version]

  # Records bear the time of their event: by age, old events would be deleted as soon as written.
  server_properties = <<-END
    auto.create.topics.enable=false
    default.replication.factor=3
    min.insync.replicas=2
    num.partitions=24
    message.max.bytes=8388608
    replica.fetch.max.bytes=8388608
    unclean.leader.election.enable=false
    log.retention.ms=-1
  END
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/${var.name}/kafka"
  retention_in_days = 30
}

resource "aws_msk_cluster" "this" {
  cluster_name           = var.name
  kafka_version          = var.kafka_version
  number_of_broker_nodes = var.brokers_per_zone * length(var.subnet_ids)
  enhanced_monitoring    = "PER_TOPIC_PER_BROKER"

  broker_node_group_info {
    instance_type   = var.instance_type
    client_subnets  = var.subnet_ids
    security_groups = [aws_security_group.this.id]

    storage_info {
      ebs_storage_info {
        volume_size = var.volume_gib
      }
    }
  }

  configuration_info {
    arn      = aws_msk_configuration.this.arn
    revision = aws_msk_configuration.this.latest_revision
  }

  client_authentication {
    sasl {
      scram = true
    }
  }

  encryption_info {
    encryption_at_rest_kms_key_arn = aws_kms_key.this.arn

    encryption_in_transit {
      client_broker = "TLS"
      in_cluster    = true
    }
  }

  logging_info {
    broker_logs {
      cloudwatch_logs {
        enabled   = true
        log_group = aws_cloudwatch_log_group.this.name
      }
    }
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "random_password" "this" {
  length  = 40
  special = false
}

# MSK takes users only from secrets of this name, under a key of one's own.
resource "aws_secretsmanager_secret" "user" {
  name       = "AmazonMSK_${var.name}"
  kms_key_id = aws_kms_key.this.arn
}

resource "aws_secretsmanager_secret_version" "user" {
  secret_id     = aws_secretsmanager_secret.user.id
  secret_string = jsonencode({ username = var.name, password = random_password.this.result })
}

data "aws_iam_policy_document" "user" {
  statement {
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [aws_secretsmanager_secret.user.arn]

    principals {
      type        = "Service"
      identifiers = ["kafka.amazonaws.com"]
    }
  }
}

resource "aws_secretsmanager_secret_policy" "user" {
  secret_arn = aws_secretsmanager_secret.user.arn
  policy     = data.aws_iam_policy_document.user.json
}

resource "aws_msk_scram_secret_association" "this" {
  cluster_arn     = aws_msk_cluster.this.arn
  secret_arn_list = [aws_secretsmanager_secret.user.arn]
  depends_on      = [aws_secretsmanager_secret_version.user, aws_secretsmanager_secret_policy.user]
}

resource "aws_secretsmanager_secret" "password" {
  name = "${var.name}/kafka-password"
}

resource "aws_secretsmanager_secret_version" "password" {
  secret_id     = aws_secretsmanager_secret.password.id
  secret_string = random_password.this.result
}
