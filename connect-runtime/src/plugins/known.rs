//! Classes of the Java world that this worker does not have: whoever names one has misspelt nothing, and is told so.
//!
//! The list need not be complete. A class that is missing here is told apart from a misspelt one by its package.

use super::PluginKind;
use PluginKind::{ConfigProvider, Connector, Converter, Predicate, RestExtension, Transformation};

/// Where classes come from: the project, the package of most of them, and what each is.
struct Project {
    name: &'static str,
    package: &'static str,
    classes: &'static [(PluginKind, &'static str)],
}

/// A class that is known, and not built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownClass {
    /// what it is
    pub kind: PluginKind,
    /// its name without its project's package
    name: &'static str,
    package: &'static str,
    /// whose it is
    pub project: &'static str,
}

impl KnownClass {
    /// Fully qualified name.
    pub fn class(&self) -> String {
        format!("{}{}", self.package, self.name)
    }

    /// What to do about it: a sentence.
    pub fn advice(&self) -> &'static str {
        super::missing::advice(self.kind)
    }
}

/// Every class that is known.
pub fn all() -> impl Iterator<Item = KnownClass> {
    PROJECTS.iter().flat_map(|project| {
        project.classes.iter().map(|(kind, name)| KnownClass {
            kind: *kind,
            name,
            package: project.package,
            project: project.name,
        })
    })
}

/// The project whose package a class's name begins with.
pub fn project_of(class: &str) -> Option<&'static str> {
    let found = PROJECTS.iter().find(|project| class.starts_with(project.package));
    found.map(|project| project.name)
}

const PROJECTS: &[Project] = &[
    Project {
        name: "Apache Kafka",
        package: "org.apache.kafka.",
        classes: &[
            (Transformation, "connect.transforms.Cast$Key"),
            (Transformation, "connect.transforms.Cast$Value"),
            (Transformation, "connect.transforms.DropHeaders"),
            (Transformation, "connect.transforms.Flatten$Key"),
            (Transformation, "connect.transforms.Flatten$Value"),
            (Transformation, "connect.transforms.HeaderFrom$Key"),
            (Transformation, "connect.transforms.HeaderFrom$Value"),
            (Transformation, "connect.transforms.InsertHeader"),
            (Transformation, "connect.transforms.MaskField$Key"),
            (Transformation, "connect.transforms.MaskField$Value"),
            (Transformation, "connect.transforms.SetSchemaMetadata$Key"),
            (Transformation, "connect.transforms.SetSchemaMetadata$Value"),
            (Transformation, "connect.transforms.TimestampConverter$Key"),
            (Transformation, "connect.transforms.TimestampConverter$Value"),
            (Transformation, "connect.transforms.TimestampRouter"),
            (Connector, "connect.mirror.MirrorSourceConnector"),
            (Connector, "connect.mirror.MirrorCheckpointConnector"),
            (Connector, "connect.mirror.MirrorHeartbeatConnector"),
            (Connector, "connect.tools.MockSinkConnector"),
            (Connector, "connect.tools.MockSourceConnector"),
            (Connector, "connect.tools.SchemaSourceConnector"),
            (Connector, "connect.tools.VerifiableSinkConnector"),
            (Connector, "connect.tools.VerifiableSourceConnector"),
            (
                RestExtension,
                "connect.rest.basic.auth.extension.BasicAuthSecurityRestExtension",
            ),
        ],
    },
    Project {
        name: "Debezium",
        package: "io.debezium.",
        classes: &[
            (Connector, "connector.mysql.MySqlConnector"),
            (Connector, "connector.mariadb.MariaDbConnector"),
            (Connector, "connector.mongodb.MongoDbConnector"),
            (Connector, "connector.mongodb.MongoDbSinkConnector"),
            (Connector, "connector.sqlserver.SqlServerConnector"),
            (Connector, "connector.oracle.OracleConnector"),
            (Connector, "connector.db2.Db2Connector"),
            (Connector, "connector.db2as400.As400RpcConnector"),
            (Connector, "connector.informix.InformixConnector"),
            (Connector, "connector.spanner.SpannerConnector"),
            (Connector, "connector.vitess.VitessConnector"),
            (Connector, "connector.jdbc.JdbcSinkConnector"),
            (Transformation, "transforms.ByLogicalTableRouter"),
            (Transformation, "transforms.ContentBasedRouter"),
            (Transformation, "transforms.ExtractChangedRecordState"),
            (Transformation, "transforms.ExtractSchemaToNewRecord"),
            (Transformation, "transforms.Filter"),
            (Transformation, "transforms.GeometryFormatTransformer"),
            (Transformation, "transforms.HeaderToValue"),
            (Transformation, "transforms.SchemaChangeEventFilter"),
            (Transformation, "transforms.SwapGeometryCoordinates"),
            (Transformation, "transforms.TimezoneConverter"),
            (Transformation, "transforms.VectorToJsonConverter"),
            (Transformation, "transforms.outbox.EventRouter"),
            (Transformation, "transforms.partitions.ComputePartition"),
            (Transformation, "transforms.partitions.PartitionRouting"),
            (Transformation, "transforms.tracing.ActivateTracingSpan"),
            (Transformation, "connector.mongodb.transforms.ExtractNewDocumentState"),
            (Transformation, "connector.mongodb.transforms.outbox.MongoEventRouter"),
            (Transformation, "connector.mysql.transforms.ReadToInsertEvent"),
            (
                Transformation,
                "connector.postgresql.transforms.DecodeLogicalDecodingMessageContent",
            ),
            (
                Transformation,
                "connector.postgresql.transforms.timescaledb.TimescaleDb",
            ),
            (Converter, "converters.BinaryDataConverter"),
            (Converter, "converters.ByteArrayConverter"),
            (Converter, "converters.ByteBufferConverter"),
            (Converter, "converters.CloudEventsConverter"),
            (RestExtension, "kcrestextension.DebeziumConnectRestExtension"),
        ],
    },
    Project {
        name: "Confluent",
        package: "io.confluent.",
        classes: &[
            (Converter, "connect.avro.AvroConverter"),
            (Converter, "connect.json.JsonSchemaConverter"),
            (Converter, "connect.protobuf.ProtobufConverter"),
            (Connector, "connect.activemq.ActiveMQSourceConnector"),
            (Connector, "connect.azure.blob.AzureBlobStorageSinkConnector"),
            (Connector, "connect.elasticsearch.ElasticsearchSinkConnector"),
            (Connector, "connect.gcs.GcsSinkConnector"),
            (Connector, "connect.hdfs.HdfsSinkConnector"),
            (Connector, "connect.hdfs3.Hdfs3SinkConnector"),
            (Connector, "connect.http.HttpSinkConnector"),
            (Connector, "connect.http.HttpSourceConnector"),
            (Connector, "connect.ibm.mq.IbmMQSourceConnector"),
            (Connector, "connect.jdbc.JdbcSinkConnector"),
            (Connector, "connect.jdbc.JdbcSourceConnector"),
            (Connector, "connect.jms.JmsSourceConnector"),
            (Connector, "connect.mqtt.MqttSinkConnector"),
            (Connector, "connect.mqtt.MqttSourceConnector"),
            (Connector, "connect.oracle.cdc.OracleCdcSourceConnector"),
            (Connector, "connect.rabbitmq.RabbitMQSourceConnector"),
            (Connector, "connect.replicator.ReplicatorSourceConnector"),
            (Connector, "connect.s3.S3SinkConnector"),
            (Connector, "connect.s3.source.S3SourceConnector"),
            (Connector, "connect.sftp.SftpCsvSourceConnector"),
            (Connector, "connect.syslog.SyslogSourceConnector"),
            (Connector, "kafka.connect.datagen.DatagenConnector"),
            (Transformation, "connect.transforms.Drop$Key"),
            (Transformation, "connect.transforms.Drop$Value"),
            (Transformation, "connect.transforms.ExtractTopic$Header"),
            (Transformation, "connect.transforms.ExtractTopic$Key"),
            (Transformation, "connect.transforms.ExtractTopic$Value"),
            (Transformation, "connect.transforms.Filter$Key"),
            (Transformation, "connect.transforms.Filter$Value"),
            (Transformation, "connect.transforms.GzipDecompress$Key"),
            (Transformation, "connect.transforms.GzipDecompress$Value"),
            (Transformation, "connect.transforms.MessageTimestampRouter"),
            (Transformation, "connect.transforms.TombstoneHandler"),
            (
                ConfigProvider,
                "connect.secretregistry.rbac.config.provider.InternalSecretConfigProvider",
            ),
            (RestExtension, "connect.security.ConnectSecurityExtension"),
        ],
    },
    Project {
        name: "kafka-connect-transform-common",
        package: "com.github.jcustenborder.kafka.connect.transform.common.",
        classes: &[
            (Transformation, "BytesToString$Value"),
            (Transformation, "ChangeCase$Value"),
            (Transformation, "ChangeTopicCase"),
            (Transformation, "ExtractNestedField$Value"),
            (Transformation, "ExtractTimestamp$Value"),
            (Transformation, "HeaderToField$Value"),
            (Transformation, "NormalizeSchema$Value"),
            (Transformation, "PatternFilter$Value"),
            (Transformation, "PatternRename$Value"),
            (Transformation, "SetNull$Value"),
            (Transformation, "TimestampNowField$Value"),
            (Transformation, "ToJSON$Value"),
            (Transformation, "TopicNameToField$Value"),
        ],
    },
    Project {
        name: "kafka-connect-spooldir",
        package: "com.github.jcustenborder.kafka.connect.spooldir.",
        classes: &[
            (Connector, "SpoolDirCsvSourceConnector"),
            (Connector, "SpoolDirJsonSourceConnector"),
            (Connector, "SpoolDirLineDelimitedSourceConnector"),
        ],
    },
    Project {
        name: "kafka-config-provider",
        package: "com.github.jcustenborder.kafka.config.",
        classes: &[
            (ConfigProvider, "aws.SecretsManagerConfigProvider"),
            (ConfigProvider, "vault.VaultConfigProvider"),
        ],
    },
    Project {
        name: "Aiven",
        package: "io.aiven.",
        classes: &[
            (Connector, "connect.jdbc.JdbcSinkConnector"),
            (Connector, "connect.jdbc.JdbcSourceConnector"),
            (Connector, "kafka.connect.http.HttpSinkConnector"),
            (Connector, "kafka.connect.gcs.GcsSinkConnector"),
            (Connector, "kafka.connect.opensearch.OpensearchSinkConnector"),
            (Connector, "kafka.connect.s3.AivenKafkaConnectS3SinkConnector"),
            (Transformation, "kafka.connect.transforms.ConcatFields$Value"),
            (Transformation, "kafka.connect.transforms.ExtractTimestamp$Value"),
            (Transformation, "kafka.connect.transforms.ExtractTopic$Value"),
            (Transformation, "kafka.connect.transforms.FilterByFieldValue$Value"),
            (Transformation, "kafka.connect.transforms.Hash$Value"),
            (Transformation, "kafka.connect.transforms.KeyToValue"),
            (Transformation, "kafka.connect.transforms.MakeTombstone"),
            (Transformation, "kafka.connect.transforms.TombstoneHandler"),
        ],
    },
    Project {
        name: "Apicurio Registry",
        package: "io.apicurio.registry.utils.converter.",
        classes: &[
            (Converter, "AvroConverter"),
            (Converter, "ExtJsonConverter"),
            (Converter, "ProtobufConverter"),
        ],
    },
    Project {
        name: "AWS Glue Schema Registry",
        package: "com.amazonaws.services.schemaregistry.kafkaconnect.",
        classes: &[
            (Converter, "AWSKafkaAvroConverter"),
            (Converter, "jsonschema.JsonSchemaConverter"),
            (Converter, "protobuf.ProtobufSchemaConverter"),
        ],
    },
    Project {
        name: "AWS",
        package: "com.amazonaws.kafka.config.providers.",
        classes: &[
            (ConfigProvider, "S3ImportConfigProvider"),
            (ConfigProvider, "SecretsManagerConfigProvider"),
            (ConfigProvider, "SsmParamStoreConfigProvider"),
        ],
    },
    Project {
        name: "Strimzi",
        package: "io.strimzi.kafka.",
        classes: &[
            (ConfigProvider, "EnvVarConfigProvider"),
            (ConfigProvider, "KubernetesConfigMapConfigProvider"),
            (ConfigProvider, "KubernetesSecretConfigProvider"),
        ],
    },
    Project {
        name: "Lenses",
        package: "io.lenses.",
        classes: &[
            (Connector, "streamreactor.connect.aws.s3.sink.S3SinkConnector"),
            (Connector, "streamreactor.connect.aws.s3.source.S3SourceConnector"),
            (ConfigProvider, "connect.secrets.providers.AWSSecretProvider"),
            (ConfigProvider, "connect.secrets.providers.AzureSecretProvider"),
            (ConfigProvider, "connect.secrets.providers.ENVSecretProvider"),
            (ConfigProvider, "connect.secrets.providers.VaultSecretProvider"),
            (Predicate, "connect.smt.predicates.InsertWallclock"),
        ],
    },
    Project {
        name: "ClickHouse",
        package: "com.clickhouse.kafka.connect.",
        classes: &[(Connector, "ClickHouseSinkConnector")],
    },
    Project {
        name: "Couchbase",
        package: "com.couchbase.connect.kafka.",
        classes: &[
            (Connector, "CouchbaseSinkConnector"),
            (Connector, "CouchbaseSourceConnector"),
        ],
    },
    Project {
        name: "DataStax",
        package: "com.datastax.",
        classes: &[(Connector, "oss.kafka.sink.CassandraSinkConnector")],
    },
    Project {
        name: "MongoDB",
        package: "com.mongodb.kafka.connect.",
        classes: &[(Connector, "MongoSinkConnector"), (Connector, "MongoSourceConnector")],
    },
    Project {
        name: "Redis",
        package: "com.redis.kafka.connect.",
        classes: &[(Connector, "RedisSinkConnector"), (Connector, "RedisSourceConnector")],
    },
    Project {
        name: "Snowflake",
        package: "com.snowflake.kafka.connector.",
        classes: &[
            (Connector, "SnowflakeSinkConnector"),
            (Connector, "SnowflakeStreamingSinkConnector"),
        ],
    },
    Project {
        name: "Splunk",
        package: "com.splunk.kafka.connect.",
        classes: &[(Connector, "SplunkSinkConnector")],
    },
    Project {
        name: "BigQuery",
        package: "com.wepay.kafka.connect.bigquery.",
        classes: &[(Connector, "BigQuerySinkConnector")],
    },
    Project {
        name: "Apache Iceberg",
        package: "org.apache.iceberg.connect.",
        classes: &[(Connector, "IcebergSinkConnector")],
    },
    Project {
        name: "Tabular",
        package: "io.tabular.iceberg.connect.",
        classes: &[(Connector, "IcebergSinkConnector")],
    },
    Project {
        name: "Neo4j",
        package: "org.neo4j.connectors.kafka.",
        classes: &[(Connector, "sink.Neo4jConnector"), (Connector, "source.Neo4jConnector")],
    },
    Project {
        name: "QuestDB",
        package: "org.questdb.kafka.",
        classes: &[(Connector, "QuestDBSinkConnector")],
    },
    Project {
        name: "StreamThoughts",
        package: "io.streamthoughts.kafka.connect.filepulse.",
        classes: &[(Connector, "source.FilePulseSourceConnector")],
    },
    Project {
        name: "Apache Camel",
        package: "org.apache.camel.kafkaconnector.",
        classes: &[(Connector, "CamelSinkConnector"), (Connector, "CamelSourceConnector")],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_class_is_listed_twice() {
        let mut classes: Vec<String> = all().map(|known| known.class()).collect();
        let listed = classes.len();
        classes.sort();
        classes.dedup();
        assert_eq!(classes.len(), listed);
    }

    #[test]
    fn a_package_names_its_project() {
        assert_eq!(project_of("io.debezium.transforms.Nothing"), Some("Debezium"));
        assert_eq!(project_of("org.example.Nothing"), None);
    }
}
